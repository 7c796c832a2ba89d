/**
 * Resolves after everything that is ready now has run, with what follows from it. Not in the standards of the web, but in Node, Deno
 * and Bun; elsewhere only what is ready at once comes first.
 */
export function turn(): Promise<void> {
  return typeof setImmediate === "function"
    ? new Promise((resolve) => void setImmediate(resolve))
    : Promise.resolve();
}

type Schedule = (callback: () => void) => unknown;

/** Not in the standards of the web, nor in the types of all runtimes, but in Node, Deno and Bun. */
const { setImmediate: schedule } = globalThis as { setImmediate?: Schedule };

/** Resolves after everything that is ready now has run, with what follows from it; where runtimes lack it, after what is ready at once. */
export function turn(): Promise<void> {
  return schedule ? new Promise((resolve) => void schedule(resolve)) : Promise.resolve();
}

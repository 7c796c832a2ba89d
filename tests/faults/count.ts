/** `3 jobs lost: …`, with a few of them named. */
export function count<T>(
  found: readonly T[],
  what: string,
  name: (one: T) => string = String,
): readonly string[] {
  if (found.length === 0) return [];
  return [`${found.length} ${what}: ${found.slice(0, 3).map(name).join(", ")}`];
}

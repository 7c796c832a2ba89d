/** Ids that follow on each other, by the first of them. Ids are bigints: not every one is a number of JavaScript. */
export function idsFrom(first: string, count: number): string[] {
  const start = BigInt(first);
  return Array.from({ length: count }, (_, at) => String(start + BigInt(at)));
}

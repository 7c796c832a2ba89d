/** What tests wait for, so that one that runs out of time can say so. */
const pending = new Map<symbol, string>();

/** Notes a wait; the answer takes the note back. */
export function noteWait(what: string): () => void {
  const key = Symbol(what);
  pending.set(key, what);
  return () => pending.delete(key);
}

/** Whoever can tell what else goes on, such as the sessions of a test's database. */
const witnesses = new Set<() => Promise<readonly string[]>>();

/** Asks `witness` too when a test runs out of time; the answer takes that back. */
export function addWitness(witness: () => Promise<readonly string[]>): () => void {
  witnesses.add(witness);
  return () => witnesses.delete(witness);
}

/** All that is waited for now, a line each. */
export async function describeWaits(): Promise<readonly string[]> {
  const own = [...pending.values()];
  const told = await Promise.all(
    [...witnesses].map((witness) => witness().catch((error: unknown) => [String(error)])),
  );
  return [...own, ...told.flat()];
}

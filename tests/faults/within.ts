import { setTimeout as delay } from "node:timers/promises";

/** How long an application waits for a statement of its own. */
export const STATEMENT_MS = 8_000;

export class NoAnswerError extends Error {}

/** Rejects with NoAnswerError when the work takes longer. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const patience = new AbortController();
  const late = delay(ms, undefined, { signal: patience.signal }).then(
    () => {
      throw new NoAnswerError(`no answer within ${ms} ms`);
    },
    () => new Promise<never>(() => undefined),
  );
  return Promise.race([work, late]).finally(() => patience.abort());
}

import { backoffDelay } from "../core/backoff.ts";
import { deadline, pause, raceSignal } from "../core/signals.ts";
import type { OneConnection } from "./one-connection.ts";
import type { Listening, ListenOptions } from "./sql.ts";

/** A connection that listens. */
export interface Ear {
  /** Settles when it hears nothing any more. */
  readonly gone: Promise<void>;
}

/** Listening for at least so long was a success. */
const LASTING_MS = 10_000;
const RECONNECT = { baseMs: 50, capMs: 2_000, jitter: 0.5 };

/** Listens with what `open` makes, and with the next one whenever one is gone. Rejects as the first `open` does. */
export async function keepListening(
  open: () => Promise<Ear>,
  { signal, onListening }: ListenOptions,
): Promise<Listening> {
  const first = await open();
  onListening?.();
  return { ended: keepOn(first) };

  async function keepOn(ear: Ear): Promise<void> {
    let failures = 0;
    for (let hearing: Ear | undefined = ear; !signal.aborted; failures += 1) {
      const since = performance.now();
      await hearing?.gone;
      // One that lasts only for a moment is a failure too: whoever hears of it looks for all that it may have missed.
      if (hearing && performance.now() - since >= LASTING_MS) failures = 0;
      await pause(backoffDelay(RECONNECT, failures, Math.random()), signal);
      if (signal.aborted) return;
      hearing = await open().catch(() => undefined);
      if (hearing) onListening?.();
    }
  }
}

/** Nothing is ever asked of a connection that listens; so it is asked now and then whether it is still there. */
const HEARTBEAT_MS = 15_000;
const ANSWER_MS = 5_000;

/** Resolves when the connection does not answer, or when the signal aborts. Never rejects. */
export async function keepBeating(
  connection: Pick<OneConnection, "run">,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await pause(HEARTBEAT_MS, signal);
    if (signal.aborted) return;
    const patience = deadline(ANSWER_MS, () => new Error("no answer"), signal);
    const isThere = await raceSignal(connection.run("select 1", [], false), patience.signal).then(
      () => true,
      () => false,
    );
    patience.release();
    if (!isThere) return;
  }
}

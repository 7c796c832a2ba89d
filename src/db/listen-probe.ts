import { ListenUnavailableError } from "../core/database-errors.ts";
import { deadline, raceSignal } from "../core/signals.ts";

/** How long our own notification may take to come back, its sending included. */
const PROBE_MS = 3_000;

export interface ListenProbe {
  /** Takes a payload; true when it was the probe's own. */
  takes(payload: string): boolean;
  isSeen(): boolean;
  /** Notifies ourselves by `send` and waits until it arrives. Throws ListenUnavailableError when it does not. */
  probe(send: (payload: string, signal: AbortSignal) => Promise<unknown>): Promise<void>;
}

/**
 * A pooler in transaction mode accepts LISTEN and then swallows every notification. The only proof that listening works is a
 * notification of one's own that comes back.
 */
export function seeOwnNotification(signal: AbortSignal): ListenProbe {
  const nonce = `probe:${crypto.randomUUID()}`;
  let isSeen = false;
  let arrive: () => void = () => undefined;
  const arrival = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  return {
    takes(payload) {
      if (payload !== nonce) return payload.startsWith("probe:");
      isSeen = true;
      arrive();
      return true;
    },
    isSeen: () => isSeen,
    async probe(send) {
      const patience = deadline(PROBE_MS, () => unavailable(), signal);
      try {
        await raceSignal(send(nonce, patience.signal), patience.signal);
        await raceSignal(arrival, patience.signal);
      } finally {
        patience.release();
      }
    },
  };
}

function unavailable(): ListenUnavailableError {
  return new ListenUnavailableError(
    "LISTEN was accepted, but our own notification did not come back",
    {
      hint: "This looks like a pooler in transaction mode. Polling goes on; a direct connection wakes sooner.",
    },
  );
}

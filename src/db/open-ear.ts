import { deadline, raceSignal } from "../core/signals.ts";
import { type Ear, keepBeating } from "./keep-listening.ts";
import { seeOwnNotification } from "./listen-probe.ts";
import type { OneConnection } from "./one-connection.ts";

/** A connection that tells when it is gone. */
interface Listener extends OneConnection {
  onLoss(callback: (error: unknown) => void): () => void;
}

export interface EarOptions {
  /** Makes a connection of its own that tells what it is notified of. */
  readonly open: (
    onNotify: (channel: string, payload: string) => void,
    signal: AbortSignal,
  ) => Promise<Listener>;
  /** Notifies through another connection. */
  readonly notify: (channel: string, payload: string, signal: AbortSignal) => Promise<unknown>;
  readonly channels: readonly [string, ...string[]];
  readonly onPayload: (payload: string, channel: string) => void;
  readonly signal: AbortSignal;
}

/** How long LISTEN may take. */
const LISTEN_MS = 5_000;

/** LISTEN on a connection of its own, so that the others stay free of session state. */
export async function openEar(options: EarOptions): Promise<Ear> {
  const { open, notify, channels, onPayload, signal } = options;
  signal.throwIfAborted();
  const over = new AbortController();
  const own = seeOwnNotification(over.signal);
  const connection = await open((channel, payload) => {
    if (!own.takes(payload)) onPayload(payload, channel);
  }, signal);
  const leave = (): void => over.abort();
  const gone = new Promise<void>((resolve) => {
    over.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  connection.onLoss(leave);
  signal.addEventListener("abort", leave, { once: true });
  // It may have aborted while the connection was made.
  if (signal.aborted) leave();
  void gone.then(() => {
    signal.removeEventListener("abort", leave);
    connection.end();
  });
  const patience = deadline(LISTEN_MS, () => new Error("no answer"), over.signal);
  try {
    for (const channel of channels) {
      const text = `listen "${channel.replaceAll('"', '""')}"`;
      await raceSignal(connection.run(text, [], false), patience.signal);
    }
    await own.probe((payload, patience) => notify(channels[0], payload, patience));
  } catch (error) {
    leave();
    throw error;
  } finally {
    patience.release();
  }
  void keepBeating(connection, over.signal).finally(leave);
  return { gone };
}

import { deadline, pause, raceSignal } from "../core/signals.ts";
import type { Connection } from "./connection.ts";
import type { Ear } from "./keep-listening.ts";
import { seeOwnNotification } from "./listen-probe.ts";

export interface EarOptions {
  /** Makes a connection of its own that tells what it is notified of. */
  readonly open: (
    onNotify: (channel: string, payload: string) => void,
    signal: AbortSignal,
  ) => Promise<Connection>;
  /** Notifies through another connection. */
  readonly notify: (channel: string, payload: string, signal: AbortSignal) => Promise<unknown>;
  readonly channels: readonly [string, ...string[]];
  readonly onPayload: (payload: string, channel: string) => void;
  readonly signal: AbortSignal;
}

/** Nothing is ever asked of a connection that listens; so it is asked now and then whether it is still there. */
const HEARTBEAT_MS = 15_000;
const ANSWER_MS = 5_000;

/** LISTEN on a connection of its own, so that the others stay free of session state. */
export async function openEar(options: EarOptions): Promise<Ear> {
  const { open, notify, channels, onPayload, signal } = options;
  signal.throwIfAborted();
  const own = seeOwnNotification(signal);
  const connection = await open((channel, payload) => {
    if (!own.takes(payload)) onPayload(payload, channel);
  }, signal);
  const over = new AbortController();
  const leave = (): void => over.abort();
  const gone = new Promise<void>((resolve) => {
    over.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  connection.onLoss(leave);
  signal.addEventListener("abort", leave, { once: true });
  void gone.then(() => {
    signal.removeEventListener("abort", leave);
    connection.end();
  });
  try {
    for (const channel of channels) {
      const text = `listen "${channel.replaceAll('"', '""')}"`;
      await raceSignal(connection.run(text, [], false), over.signal);
    }
    await own.probe((payload, patience) => notify(channels[0], payload, patience));
  } catch (error) {
    leave();
    throw error;
  }
  void beat(connection, over.signal).finally(leave);
  return { gone };
}

/** Resolves when the connection does not answer, or when the signal aborts. Never rejects. */
async function beat(connection: Connection, signal: AbortSignal): Promise<void> {
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

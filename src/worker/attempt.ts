import { type ClaimedRow, InexactPayload } from "../db/claimed-jobs.ts";
import type { Lane } from "./lane.ts";
import type { Lease } from "./lease-book.ts";
import type { Route } from "./routes.ts";

/**
 * One try at one job, from its claim until the database knows its end.
 *
 *   buffered -> running -> ended
 *
 * `ended` means that the outcome is decided; the handler may still be running, if it does not mind its signal.
 */
export class Attempt {
  readonly row: ClaimedRow;
  readonly id: string;
  readonly lease: Lease;
  readonly lane: Lane;
  readonly route: Route;
  /** How long the job was ready before it was claimed, by the database's clock; null when that is not known. */
  readonly waitMs: number | null;
  /** How long its job is in JSON, about. */
  chars = 0;
  state: "buffered" | "running" | "ended" = "buffered";
  startedAt = 0;
  elapsedMs = 0;
  /** The result as JSON, of a completed attempt. */
  resultText: string | null = null;
  /** What the handler keeps with the attempt, as JSON. */
  noteText: string | null = null;
  /** Completed, and kept back until the others of its lease are. */
  isHeld = false;
  /** Why the handler was told to stop. */
  stopReason: StopReason | undefined;
  /** The settlement was sent once, and no answer came back. */
  isUncertain = false;
  /** The handler was called; before that its input may be checked, which may take a while. */
  isBegun = false;
  /** What this worker found wrong with the job's own input or result: trying again would end the same way. */
  fault: unknown;
  /** The handler is about to complete it together with its own writes. */
  isCommitting = false;
  /** Why the transaction that the handler wanted to complete it in could not even begin. */
  notBegun: { readonly error: unknown; readonly delayMs: number } | undefined;
  /** The handler itself completed it, together with its own writes, or passed it on. */
  isCommitted = false;
  /** Called once the handler has ended. */
  onLeave: (() => void) | undefined;
  /** Nothing is left to tell the database. */
  isClosed = false;
  #controller: AbortController | undefined;
  #abortReason: Error | undefined;
  #onAbort: (() => void) | undefined;

  constructor(row: ClaimedRow, lease: Lease, lane: Lane, route: Route, waitMs: number | null) {
    this.row = row;
    this.id = row[1];
    this.lease = lease;
    this.lane = lane;
    this.route = route;
    this.waitMs = waitMs;
  }

  get type(): string {
    return this.row[2];
  }

  /** A second run is not wanted, whatever became of the first. */
  get mayRunOnce(): boolean {
    return this.row[8] === 0;
  }

  /** Throws InvalidPayloadError when JavaScript can't hold it as it is. */
  get payload(): unknown {
    const payload = this.row[5];
    if (!(payload instanceof InexactPayload)) return payload;
    this.fault = payload.error;
    throw this.fault;
  }

  /** The time limit that was given with the job; it goes before its definition's. */
  get ownTimeoutMs(): number | undefined {
    return this.row[11]?.timeout_ms;
  }

  /** Made when first asked for: most handlers never look at it. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#abortReason) this.#controller.abort(this.#abortReason);
    }
    return this.#controller.signal;
  }

  get isAborted(): boolean {
    return this.#abortReason !== undefined;
  }

  /** Tells the handler to stop. The first reason stays. */
  abort(kind: StopReason, reason: Error): void {
    if (this.#abortReason) return;
    this.stopReason = kind;
    this.#abortReason = reason;
    this.#controller?.abort(reason);
    this.#onAbort?.();
  }

  /** Calls back at the abort, without a signal having to be made. */
  whenAborted(callback: () => void): void {
    this.#onAbort = callback;
  }
}

export type StopReason = "timeout" | "cancelled" | "lost" | "shutdown";

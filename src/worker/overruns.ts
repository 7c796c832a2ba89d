import type { Clock } from "../core/clock.ts";
import { pause } from "../core/signals.ts";
import type { Attempt } from "./attempt.ts";
import type { Events } from "./events.ts";

export interface OverrunsParts {
  readonly clock: Clock;
  readonly events: Events;
  /** The attempts whose handlers run. */
  readonly running: ReadonlySet<Attempt>;
}

/** Between two looks. */
const LOOK_MS = 1_000;
/** A handler has so long to notice that it should stop. */
const GRACE_MS = 5_000;
/** It is told of again this much later. */
const AGAIN_MS = 600_000;
const MOST_NAMED = 5;

/** Handlers that go on although the outcome of their attempt is decided. Each keeps a slot, so that no other job runs in it. */
export class Overruns {
  readonly #parts: OverrunsParts;
  readonly #toldAt = new Map<Attempt, number>();

  constructor(parts: OverrunsParts) {
    this.#parts = parts;
  }

  /** For those who look after this worker; undefined when all handlers stop in time. */
  describe(): { types: readonly string[]; count: number; ms: number } | undefined {
    const late = [...this.#late(GRACE_MS)];
    if (late.length === 0) return undefined;
    const types = new Set(late.map(([{ type }]) => type));
    const ms = Math.max(...late.map(([, lateMs]) => lateMs));
    return { types: [...types].slice(0, MOST_NAMED), count: late.length, ms: Math.round(ms) };
  }

  /** Tells of each of them once, and rarely again; `onNews` hears that there was one to tell of. Never rejects. */
  async watch(onNews: () => void, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(LOOK_MS, signal, this.#parts.clock);
      if (!signal.aborted && this.#look()) onNews();
    }
  }

  #look(): boolean {
    const { clock, events, running } = this.#parts;
    const now = clock.now();
    for (const attempt of this.#toldAt.keys()) {
      if (!running.has(attempt)) this.#toldAt.delete(attempt);
    }
    let isNew = false;
    for (const [attempt] of this.#late(GRACE_MS)) {
      if (now - (this.#toldAt.get(attempt) ?? -Infinity) < AGAIN_MS) continue;
      this.#toldAt.set(attempt, now);
      events.overrunning(attempt, now - attempt.startedAt);
      isNew = true;
    }
    return isNew;
  }

  *#late(graceMs: number): Generator<[Attempt, number]> {
    const now = this.#parts.clock.now();
    for (const attempt of this.#parts.running) {
      const lateMs = now - attempt.startedAt - attempt.elapsedMs;
      if (attempt.state === "ended" && attempt.stopReason && lateMs >= graceMs) {
        yield [attempt, lateMs];
      }
    }
  }
}

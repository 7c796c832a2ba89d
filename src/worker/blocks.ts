import type { Clock } from "../core/clock.ts";
import type { Attempt } from "./attempt.ts";
import type { Events } from "./events.ts";

/** Below this nobody is suspected of keeping the event loop to itself. */
export const NOTABLE_MS = 100;
/** The same cause is told again after this long, or when it got twice as bad. */
const TELL_AGAIN_MS = 60_000;
/** A block explains what goes wrong for so long after it. */
const REMEMBERED_MS = 3_600_000;
/** The most types that are named as possible causes. */
const MOST_NAMED = 5;

/** A time during which this process did nothing but one thing. */
export interface Block {
  readonly ms: number;
  /** Types of the handlers that may have done it; the one that did, where that is known. */
  readonly types: readonly string[];
  /** Local time at which it was over. */
  readonly endedAt: number;
}

export interface BlocksParts {
  readonly clock: Clock;
  readonly events: Events;
  readonly leaseMs: number;
}

/**
 * Who kept the event loop of this process to itself, and for how long. While nobody else runs, no lease is extended and no answer is
 * read, so whoever finds a deadline passed has to know whether the process was there to see it.
 */
export class Blocks {
  readonly #parts: BlocksParts;
  /** The longest that a handler of a type kept the process to itself when it was called. */
  readonly #calls = new Map<string, number>();
  /** Since the last look: the longest call of each type that was long, and the longest run. */
  #longCalls = new Map<string, number>();
  #longRuns = new Map<string, number>();
  #told: Block | undefined;
  #last: Block | undefined;

  constructor(parts: BlocksParts) {
    this.#parts = parts;
  }

  /** The handler of a type gave way after so long. */
  called(type: string, ms: number): void {
    this.#calls.set(type, Math.max(this.#calls.get(type) ?? 0, ms));
    if (ms >= NOTABLE_MS) raise(this.#longCalls, type, ms);
  }

  /** A handler of a type ended after so long; only those that took notable time have to be told of. */
  ended(type: string, ms: number): void {
    raise(this.#longRuns, type, ms);
  }

  /** The longest that a handler of this type kept the process to itself when it was called; Infinity while none was seen. */
  longestCall(type: string): number {
    return this.#calls.get(type) ?? Infinity;
  }

  /** A timer came so much too late: answers the block, if it is long enough to be told of. */
  late(ms: number, running: Iterable<Attempt>): Block | undefined {
    const endedAt = this.#parts.clock.now();
    const block = { ms: Math.round(ms), types: this.#suspects(ms, running, endedAt), endedAt };
    this.#longCalls = new Map();
    this.#longRuns = new Map();
    this.#last = block;
    return this.#isWorthTelling(block) ? this.#tell(block) : undefined;
  }

  /** A timer came in time: what ended before did no harm. */
  inTime(): void {
    if (this.#longCalls.size > 0) this.#longCalls = new Map();
    if (this.#longRuns.size > 0) this.#longRuns = new Map();
  }

  /** Whether the process was blocked since that local time. */
  since(at: number): Block | undefined {
    return this.#last !== undefined && this.#last.endedAt >= at ? this.#last : undefined;
  }

  /** What to say of a lease that was lost, if a block within its time explains it. */
  explain(): string | undefined {
    const { clock, leaseMs } = this.#parts;
    const block = this.since(clock.now() - 2 * leaseMs);
    return block && block.ms >= leaseMs / 3 ? sentence(block) : undefined;
  }

  /** The last one that was told of, for those who look after this worker. */
  describe(): { types: readonly string[]; ms: number; ago_ms: number } | undefined {
    const block = this.#told;
    if (!block) return undefined;
    const ago = Math.round(this.#parts.clock.now() - block.endedAt);
    return ago > REMEMBERED_MS ? undefined : { types: block.types, ms: block.ms, ago_ms: ago };
  }

  /** A call that lasted for most of the time is the cause; otherwise it may be anybody who was at work all the time. */
  #suspects(ms: number, running: Iterable<Attempt>, now: number): string[] {
    const callers = [...this.#longCalls].filter(([, callMs]) => callMs >= ms / 2);
    if (callers.length > 0) return callers.map(([type]) => type).slice(0, MOST_NAMED);
    const types = new Set<string>();
    for (const [type, runMs] of this.#longRuns) if (runMs >= ms * 0.9) types.add(type);
    for (const { type, startedAt } of running) if (now - startedAt >= ms * 0.9) types.add(type);
    return [...types].slice(0, MOST_NAMED);
  }

  #isWorthTelling({ ms, types, endedAt }: Block): boolean {
    if (ms < Math.min(this.#parts.leaseMs / 3, 2_000)) return false;
    const told = this.#told;
    if (!told || endedAt - told.endedAt > TELL_AGAIN_MS || ms > told.ms * 2) return true;
    return types.join() !== told.types.join();
  }

  #tell(block: Block): Block {
    this.#told = block;
    const { events, leaseMs } = this.#parts;
    events.emit({
      kind: "blocked",
      types: block.types,
      ms: block.ms,
      hint:
        `Leases of ${leaseMs} ms can't be extended meanwhile. Let the handler yield now and then, move its work to a worker ` +
        "thread, or raise leaseMs.",
    });
    return block;
  }
}

function sentence({ ms, types }: Block): string {
  if (types.length === 0) return `this process did not run for ${ms} ms`;
  return `a handler of type ${types.join(" or ")} blocked the event loop for ${ms} ms`;
}

function raise(map: Map<string, number>, type: string, ms: number): void {
  map.set(type, Math.max(map.get(type) ?? 0, ms));
}

import { setTimeout as delay } from "node:timers/promises";
import type { EnqueueOptions, Job } from "../../src/index.ts";
import type { Acknowledgement } from "../support/identity.ts";
import type { Journal } from "../support/journal.ts";
import {
  BATCH,
  MAX_RETRIES,
  makePlan,
  PLAIN,
  type Plan,
  pick,
  type Random,
  SINGLE,
  TENANTS,
} from "./plan.ts";

/** What producers write down. */
export type ProducerEntry =
  /** Before a call: jobs that may come to be. */
  | { readonly tried: readonly string[] }
  /** After it: jobs that must be there. */
  | { readonly told: readonly (readonly [id: string, nonce: string])[]; readonly at: number }
  /** Jobs of transactions that were rolled back. */
  | { readonly undone: readonly string[] }
  /** A call that did not return in time. */
  | { readonly stuck: string; readonly at: number };

export interface ProducerTools {
  readonly name: string;
  readonly url: string;
  readonly random: Random;
  readonly leaseMs: number;
  readonly journal: Journal;
  readonly isOver: () => boolean;
}

/** A job before it is enqueued. */
export interface Draft {
  readonly job: Job<Plan>;
  readonly plan: Plan;
  readonly options: EnqueueOptions;
}

/** A call of the library returns within this, whatever the database does. */
const PATIENCE_MS = 40_000;
const TYPES: readonly Job<Plan>[] = [...SINGLE, ...SINGLE, BATCH, PLAIN];

/** A producer that was given up, because a call on it went too far beyond its time. */
export class StuckCallError extends Error {}

/** Makes jobs and keeps the books of one producer. */
export class Producer {
  readonly tools: ProducerTools;
  #made = 0;

  constructor(tools: ProducerTools) {
    this.tools = tools;
  }

  nonce(): string {
    this.#made += 1;
    return `${this.tools.name}.${this.#made}`;
  }

  draft(job: Job<Plan> = pick(this.tools.random, TYPES)): Draft {
    const { random, leaseMs } = this.tools;
    const nonce = this.nonce();
    const tenant = pick(random, TENANTS);
    const priority = pick(random, ["critical", "high", "normal", "normal", "low"] as const);
    return {
      job,
      plan: makePlan(random, leaseMs, { nonce, type: job.type, tenant }),
      options: {
        priority,
        maxRetries: random() < 0.03 ? 0 : MAX_RETRIES,
        backoff: { base: "100ms", cap: "1s" },
        ...(tenant !== null && { tenantId: tenant }),
        ...(random() < 0.05 && { delay: Math.floor(random() * 1_500) }),
      },
    };
  }

  drafts(most: number): Draft[] {
    const count = 1 + Math.floor(this.tools.random() * most);
    return Array.from({ length: count }, () => this.draft());
  }

  /** Makes a call whose acknowledgement counts. Resolves with false when nobody knows what became of it. */
  async call(
    what: string,
    nonces: readonly string[],
    work: () => Promise<readonly Acknowledgement[]>,
  ): Promise<boolean> {
    const { journal, name } = this.tools;
    journal.write({ tried: nonces });
    // An answer that comes after all counts like any other.
    const answer = work().then(
      (told) => {
        journal.write({ told: told.map(({ id, nonce }) => [id, nonce]), at: Date.now() });
        return true;
      },
      () => false,
    );
    const patience = new AbortController();
    const verdict = await Promise.race([
      answer,
      delay(PATIENCE_MS, "late" as const, { signal: patience.signal, ref: false }).catch(
        () => "late" as const,
      ),
    ]);
    patience.abort();
    if (verdict !== "late") return verdict;
    journal.write({ stuck: `${name}: ${what}`, at: Date.now() });
    throw new StuckCallError(what);
  }

  /** Their transaction was rolled back: they must never be there. */
  undo(drafts: readonly Draft[]): void {
    this.tools.journal.write({ undone: drafts.map(({ plan }) => plan.who.nonce) });
  }

  pause(meanMs: number): Promise<void> {
    return delay(meanMs * 2 * this.tools.random());
  }
}

export function noncesOf(drafts: readonly Draft[]): string[] {
  return drafts.map(({ plan }) => plan.who.nonce);
}

export function tell(drafts: readonly Draft[], made: readonly { readonly id: string }[]) {
  return drafts.map(({ plan }, n): Acknowledgement => {
    return { id: made[n]?.id ?? "", nonce: plan.who.nonce };
  });
}

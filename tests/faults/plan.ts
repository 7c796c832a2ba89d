import { defineJob, type Job } from "../../src/index.ts";
import { type Random, randomFrom } from "../crash/plan.ts";
import { type Identified, identify } from "../support/identity.ts";

export { type Random, randomFrom };

/** What a job of the campaign does, decided when it is enqueued. */
export interface Plan extends Identified {
  /** How long the handler works. */
  readonly ms: number;
  /** Its first attempts that throw. */
  readonly failures: number;
  /** How long its first attempt blocks the whole process, so that no lease of it can be extended. */
  readonly blockMs: number;
  /** Reports progress. */
  readonly reports: boolean;
  /** How it ends well: by returning, or in one transaction with an effect (and with children). */
  readonly end: "return" | "commit" | "discard" | "snooze";
  /** Jobs that it enqueues: those of `commit` in its transaction, those of others before it returns. */
  readonly children: number;
}

/** Handled one by one, under several names, so that what is mixed up shows in the type too. */
export const SINGLE: readonly Job<Plan>[] = ["pay", "refund", "mail"].map((name) =>
  defineJob<Plan>(`faults.${name}`),
);
/** Handled in batches. */
export const BATCH: Job<Plan> = defineJob<Plan>("faults.batch");
/** Large numbers of jobs that do nothing, in batches. */
export const BULK: Job<Plan> = defineJob<Plan>("faults.bulk");
/** What handlers enqueue. */
export const CHILD: Job<Plan> = defineJob<Plan>("faults.child");
/** Handled by a caller that knows the SQL contract and nothing else. */
export const PLAIN: Job<Plan> = defineJob<Plan>("faults.plain");
/** A queue of few jobs, which workers serve by itself. */
export const PAIRS = "faults.pairs";

/** Jobs that only one worker runs, at the end: as many at a time as it has slots. */
export function lastType(member: string): string {
  return `faults.last.${member}`;
}

export const SLOTS = 8;
export const TENANTS: readonly (string | null)[] = [null, null, "acme", "globex", "initech"];
export const MAX_RETRIES = 20;

/** What makes a job this one. */
export interface PlanFor {
  readonly nonce: string;
  readonly type: string;
  readonly tenant: string | null;
}

const NOTHING = {
  ms: 0,
  failures: 0,
  blockMs: 0,
  reports: false,
  children: 0,
  end: "return" as const,
};

/** A job that does nothing. */
export function idlePlan({ nonce, ...facts }: PlanFor): Plan {
  return identify(nonce, facts, NOTHING);
}

export function makePlan(random: Random, leaseMs: number, { nonce, ...facts }: PlanFor): Plan {
  const chance = (share: number): boolean => random() < share;
  const isSingle = SINGLE.some((job) => job.type === facts.type);
  const ends: readonly [Plan["end"], number][] = [
    ["discard", facts.type === PLAIN.type ? 0 : 0.02],
    ["snooze", facts.type === PLAIN.type ? 0 : 0.03],
    ["commit", facts.type === BATCH.type ? 0 : 0.4],
  ];
  return identify(nonce, facts, {
    ms: chance(0.04) ? leaseMs * 1.5 * random() : 40 * random(),
    failures: chance(0.08) ? 1 + Math.floor(random() * 2) : 0,
    blockMs: isSingle && chance(0.002) ? leaseMs * 1.3 : 0,
    reports: chance(0.15),
    end: ends.find(([, share]) => chance(share))?.[0] ?? "return",
    children: isSingle && chance(0.06) ? 1 + Math.floor(random() * 3) : 0,
  });
}

export function pick<T>(random: Random, from: readonly [T, ...T[]] | readonly T[]): T {
  return from[Math.floor(random() * from.length)] as T;
}

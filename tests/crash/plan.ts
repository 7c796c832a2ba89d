import { defineJob, type Job } from "../../src/index.ts";
import { type Identified, identify } from "../support/identity.ts";

/** What a job of the campaign does, decided when it is enqueued. */
export interface Plan extends Identified {
  /** How long the handler works. */
  readonly ms: number;
  /** Milliseconds for which it blocks its whole process, so that no lease of it can be extended. */
  readonly stallMs: number;
  /** Its first attempts that throw. */
  readonly failures: number;
  /** Writes a row of the ledger, in the same transaction as its completion. */
  readonly hasEffect: boolean;
  /** Reports progress once. */
  readonly reports: boolean;
  readonly end: "complete" | "discard" | "snooze";
}

/** Handled one by one. */
export const WORK: Job<Plan> = defineJob<Plan>("crash.work");
/** Handled in batches. */
export const BULK: Job<Plan> = defineJob<Plan>("crash.bulk");
/** Handled by a caller that knows the SQL contract and nothing else. */
export const PLAIN = "crash.plain";
/** A queue of few jobs, which workers serve by itself. */
export const PAIRS = "crash.pairs";

/** Numbers that look random and are the same for the same seed. */
export type Random = () => number;

export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What makes a job this one. */
export interface PlanFor {
  readonly nonce: string;
  readonly type: string;
  readonly tenant: string | null;
}

export function makePlan(random: Random, stallMs: number, { nonce, ...facts }: PlanFor): Plan {
  const chance = (share: number): boolean => random() < share;
  return identify(nonce, facts, {
    ms: Math.floor(random() * 40),
    stallMs: chance(0.004) ? stallMs : 0,
    failures: chance(0.1) ? 1 + Math.floor(random() * 2) : 0,
    hasEffect: chance(0.6),
    reports: chance(0.1),
    end: chance(0.02) ? "discard" : chance(0.03) ? "snooze" : ("complete" as const),
  });
}

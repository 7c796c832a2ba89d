/**
 * What the queue should be, in a few hundred lines without a database: jobs, leases, edges, dead letters and the rules that
 * move them. The campaign does the same to this and to Postgres and compares after each step.
 *
 * Times are integers of microseconds, as exact as the database's own.
 */

export type Status =
  | "blocked"
  | "scheduled"
  | "pending"
  | "processing"
  | "completed"
  | "failed"
  | "cancelled";

export type RunOutcome =
  | "completed"
  | "failed"
  | "cancelled"
  | "lost"
  | "snoozed"
  | "released"
  | "redriven"
  | "expedited";

/** A row of the trail: the end of an attempt, or what an operator did. */
export interface Run {
  readonly outcome: RunOutcome;
  readonly to: Status;
  readonly attempt: number;
  /** Null means processing. */
  readonly from: Status | null;
  readonly hasError: boolean;
}

export interface Backoff {
  readonly baseMs: number;
  readonly capMs: number;
  readonly jitter: number;
}

/** What was asked for at the enqueue. */
export interface JobFacts {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly tenant: string | null;
  /** 0 is served first. */
  readonly priority: number;
  readonly maxRetries: number;
  readonly backoff: Backoff;
  readonly createdAt: number;
  readonly scheduledAt: number | null;
  /** What only this job's payload holds: whatever is told, claimed or stored of the job is checked against it. */
  readonly nonce: string;
}

export interface Job extends JobFacts {
  status: Status;
  /** Attempts used up; of a running job the number of its attempt. */
  attempts: number;
  crashes: number;
  /** When its token is due. */
  at: number;
  /** The delay of a retry is random: the earliest time it may be due. Learnt at the next comparison. */
  atLeast: number | undefined;
  cancelRequested: boolean;
  readonly runs: Run[];
}

export interface Lease {
  readonly id: string;
  readonly worker: string;
  readonly crashes: number;
  /** Attempt by job id, in the order of the claim. */
  readonly held: ReadonlyMap<string, number>;
  /** Jobs of it that have not ended. */
  readonly open: Set<string>;
  expiresAt: number;
  /** Made by the enqueue for a sleeping worker, which has not extended it yet. */
  isOffered: boolean;
}

export interface DeadLetter extends JobFacts {
  readonly attempts: number;
  readonly redrives: number;
  readonly errors: number;
  readonly failedAt: number;
}

/** Parent and child, and whether the child runs even when the parent fails. */
export interface Edge {
  readonly parent: string;
  readonly child: string;
  readonly runAnyway: boolean;
}

export const FINAL: readonly Status[] = ["completed", "failed", "cancelled"];
export const WAITING: readonly Status[] = ["blocked", "scheduled", "pending"];

export class Model {
  now: number;
  readonly jobs: Map<string, Job> = new Map();
  /** Live leases. */
  readonly leases: Map<string, Lease> = new Map();
  /** Every lease there ever was, so that late workers can be played. */
  readonly oldLeases: Lease[] = [];
  readonly deadLetters: Map<string, DeadLetter> = new Map();
  readonly paused: Set<string> = new Set();
  /** The job of a key, by tenant, type and key. */
  readonly keys: Map<string, string> = new Map();
  edges: Edge[] = [];
  #nonces = 0;

  constructor(now: number) {
    this.now = now;
  }

  job(id: string): Job {
    const job = this.jobs.get(id);
    if (!job) throw new Error(`the model has no job ${id}`);
    return job;
  }

  /** One that no job of this model had before. */
  nextNonce(): string {
    this.#nonces += 1;
    return `n${this.#nonces}`;
  }

  openParents(id: string): number {
    return this.edges.filter((edge) => edge.child === id).length;
  }

  /** The live lease under which a job runs. */
  liveLease(id: string): Lease | undefined {
    return [...this.leases.values()].find((lease) => lease.open.has(id));
  }

  isCancelWanted(lease: Lease, id: string): boolean {
    return lease.open.has(id) && this.job(id).cancelRequested;
  }
}

/** Ids grow; as text they do not sort. */
export function byId(left: string, right: string): number {
  const difference = BigInt(left) - BigInt(right);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** The list's element number n, counted around; undefined when the list is empty. */
export function pick<T>(list: readonly T[], n: number): T | undefined {
  return list[n % Math.max(list.length, 1)];
}

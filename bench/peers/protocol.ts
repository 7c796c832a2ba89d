// What the benchmark and its peers say to each other. A peer is a script that speaks this over Node's IPC channel,
// so that each runs in processes of its own and its time holds nothing of the benchmark's.

import type { Pairs } from "./pairs.ts";

/** What a job carries. `n` tells jobs apart; those below zero are bystanders and do not count. */
export interface Payload {
  readonly n: number;
  readonly pad?: string;
}

/** A job, in words that every peer has some form of. */
export interface JobSpec {
  readonly payload: Payload;
  readonly delaySeconds?: number;
  readonly isLow?: boolean;
  readonly tenant?: string;
}

/** Many jobs at once, numbered from `from`. */
export interface Backlog {
  readonly jobs: number;
  /** How many in one call. @default 10_000 */
  readonly chunk?: number;
  readonly from?: number;
  /** They count as bystanders: numbered -1, and not awaited. */
  readonly isBystander?: boolean;
  /** Size of the payload. @default about 10 */
  readonly payloadBytes?: number;
  readonly delaySeconds?: number;
  readonly isLow?: boolean;
  /** Of how many tenants, with shares as in Zipf's law; if more than one, the very last job is the only one of a further tenant. */
  readonly tenants?: number;
}

/** How a worker works. */
export interface WorkOptions {
  /** How many handlers at a time. @default what the peer does best with */
  readonly concurrency?: number;
  /** How long a handler waits. @default 0: it returns at once */
  readonly waitMs?: number;
  /** Every how many-th job fails at its first attempt; for one worker process only. */
  readonly failEvery?: number;
  /** Whether to keep the time at which each handler began. */
  readonly stamps?: boolean;
}

/** Orders to a peer's process. */
export type Order =
  | { readonly kind: "setup" }
  /** Opens connections, so that the time of connecting is not measured. */
  | { readonly kind: "connect" }
  | { readonly kind: "enqueue"; readonly backlog: Backlog }
  /** Enqueues one job per call from some concurrent loops. */
  | { readonly kind: "produce"; readonly jobs: number; readonly producers: number }
  /** Enqueues one job every `everyMs`, numbered from 0. */
  | { readonly kind: "emit"; readonly jobs: number; readonly everyMs: number }
  /** Enqueues bystanders at a steady rate until the process ends. */
  | { readonly kind: "pace"; readonly perSecond: number }
  | { readonly kind: "work"; readonly options: WorkOptions }
  /** The same waits with no queue around them: what so many slots can do in this process. */
  | {
      readonly kind: "bare";
      readonly jobs: number;
      readonly slots: number;
      readonly waitMs: number;
    }
  | { readonly kind: "count" }
  /** Which numbers met which ids in the handlers of this process, once it has settled. */
  | { readonly kind: "pairs" }
  | { readonly kind: "lonely" }
  /** Stops working; what handlers have finished is written when this is done. */
  | { readonly kind: "settle" };

export type OrderOf<Kind extends Order["kind"]> = Extract<Order, { readonly kind: Kind }>;

/** What is in a queue: jobs that have not ended, and attempts that completed; null where none are kept. */
export interface Count {
  readonly left: number;
  readonly completed: number | null;
}

/** A job's number and a time in milliseconds of the machine's monotonic clock, the same in all processes. */
export type Stamp = readonly [n: number, at: number];

/** What is answered to an order. */
export interface Answers {
  readonly setup: null;
  readonly connect: null;
  /** `pairs` are the ids that were told, by peers that tell them. */
  readonly enqueue: { readonly seconds: number; readonly pairs: Pairs };
  readonly produce: { readonly seconds: number };
  readonly emit: readonly Stamp[];
  readonly pace: null;
  readonly work: null;
  readonly bare: { readonly seconds: number };
  readonly count: Count;
  readonly pairs: Pairs;
  readonly lonely: number | null;
  readonly settle: readonly Stamp[];
}

/** Handlers that ran; `sum` is of the numbers of the jobs. */
export interface Ran {
  readonly jobs: number;
  readonly sum: number;
  readonly bystanders: number;
}

/** What a peer's process tells: an order done, or how many handlers ran since it last said so. */
export type News =
  | { readonly kind: "done"; readonly order: Order["kind"]; readonly answer: unknown }
  | ({ readonly kind: "ran" } & Ran)
  | { readonly kind: "failed"; readonly message: string };

/** A peer, as its script implements it. */
export interface Peer {
  /** Installs the schema in an empty database. */
  setup(url: string): Promise<void>;
  connect(url: string): Promise<void>;
  enqueueOne(job: JobSpec): Promise<void>;
  enqueueMany(jobs: readonly JobSpec[]): Promise<void>;
  /** The ids that the last call of `enqueueMany` was told, in the order of its jobs. */
  idsTold?(): readonly string[];
  /** Begins to work. Calls `handle` once per attempt; the attempt ends as its promise does. */
  work(options: WorkOptions, handle: Handle): Promise<void>;
  count(): Promise<Count>;
  /** How many claims finished before the one that took the single job of the last tenant. */
  lonely?(): Promise<number>;
  /** Stops working; resolves once all that handlers have finished is written. */
  settle(): Promise<void>;
}

/** Peers that tell ids give the job's own to the handler as well. */
export type Handle = (payload: Payload, id?: string) => Promise<void>;

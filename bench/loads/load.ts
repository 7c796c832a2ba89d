// What a load is.

import type { Ability } from "../peers/known.ts";
import type { Stage } from "../stage.ts";

/** How large the loads are. */
export interface Sizes {
  readonly jobs: number;
  readonly workers: readonly number[];
  /** Jobs that stand beside the measured ones. */
  readonly bystanders: number;
  /** Jobs drained beside them. */
  readonly besideJobs: number;
  readonly samples: number;
  readonly tenants: number;
  readonly idleSeconds: number;
  readonly soakMinutes: number;
  /** Jobs per second of the background; 0 is half of what the peer drains. */
  readonly backgroundRate: number;
}

/** A load runs once per case: for each number of workers, for example. */
export interface Case {
  readonly label: string;
  readonly value: number;
}

/** What was measured, by name. NaN where it can't be known. */
export type Figures = Readonly<Record<string, number>>;

export interface Column {
  readonly figure: string;
  readonly title: string;
  /** Decimal places. @default 0 */
  readonly digits?: number;
}

/** Sets a stage with a fresh database, which is gone afterwards. */
export type SetStage = <T>(use: (stage: Stage) => Promise<T>) => Promise<T>;

export interface Load {
  readonly name: string;
  /** What is measured, for the head of the table. */
  readonly about: string;
  /** A peer without all of these is left out. */
  readonly needs: readonly Ability[];
  readonly cases: (sizes: Sizes) => readonly Case[];
  /** The first is the one that peers are compared by. */
  readonly columns: readonly [Column, ...Column[]];
  run(setStage: SetStage, of: Case, sizes: Sizes): Promise<Figures>;
}

export const ONE_CASE: readonly Case[] = [{ label: "-", value: 1 }];

/** What most tables end with. */
export const USAGE_COLUMNS: readonly Column[] = [
  { figure: "databaseCpu", title: "DB CPU s/1k", digits: 3 },
  { figure: "peerCpu", title: "peer CPU s/1k", digits: 3 },
  { figure: "logBytesPerJob", title: "log B/job" },
  { figure: "peakMb", title: "peak MB" },
];

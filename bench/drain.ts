// Lets worker processes run jobs, and times it.

import { setInterval } from "node:timers";
import type { PeerProcess } from "./peer-process.ts";
import type { WorkOptions } from "./peers/protocol.ts";
import type { Stage } from "./stage.ts";
import { measureUsage, type Usage } from "./usage.ts";

export interface Drained extends Usage {
  /** Until all was written. */
  readonly jobsPerSecond: number;
  /** Until the last handler had run. */
  readonly handledPerSecond: number;
  /** Handler rate over the first and the last fifth of the jobs. */
  readonly firstFifth: number;
  readonly lastFifth: number;
  readonly bystanders: number;
}

/** A queue in which nothing moves for so long has lost a job. */
const STUCK_MS = 120_000;

/** Counts what handlers of some processes did, with the times. */
export class Progress {
  ran = 0;
  bystanders = 0;
  readonly #marks: [ms: number, ran: number][] = [];
  #lastMove = performance.now();

  constructor(workers: readonly PeerProcess[]) {
    for (const worker of workers) {
      worker.onRan((jobs, bystanders) => {
        this.ran += jobs;
        this.bystanders += bystanders;
        this.#lastMove = performance.now();
        this.#marks.push([this.#lastMove, this.ran]);
      });
    }
  }

  /** Resolves once this many jobs ran; rejects when nothing moves any more. */
  reached(jobs: number): Promise<void> {
    this.#lastMove = performance.now();
    return new Promise((resolve, reject) => {
      const timer = setInterval(() => {
        const isStuck = performance.now() - this.#lastMove > STUCK_MS;
        if (this.ran < jobs && !isStuck) return;
        clearInterval(timer);
        if (this.ran >= jobs) resolve();
        else reject(new Error(`${this.ran} of ${jobs} handlers ran, then nothing moved`));
      }, 1);
    });
  }

  /** When the count passed `jobs`. */
  at(jobs: number): number {
    return this.#marks.find(([, ran]) => ran >= jobs)?.[0] ?? Number.NaN;
  }
}

export interface DrainOptions {
  readonly jobs: number;
  readonly workers: number;
  readonly work?: WorkOptions;
  /** How many of the bystanders in the queue are none of ours to run, so that they are left. @default 0 */
  readonly bystanders?: number;
}

/** Runs the jobs that are in the queue, and checks that each ran exactly once. */
export async function drain(
  stage: Stage,
  { jobs, workers: count, work = {}, bystanders = 0 }: DrainOptions,
): Promise<Drained> {
  const workers = await Promise.all(Array.from({ length: count }, () => stage.process()));
  const progress = new Progress(workers);
  const failure = Promise.race(workers.map((worker) => worker.failure));
  const finish = await measureUsage(stage, workers);
  const begin = performance.now();
  await Promise.all(workers.map((worker) => worker.order<"work">({ kind: "work", options: work })));
  await Promise.race([progress.reached(jobs), failure]);
  // The end counts only when it is written: this settles what is still in memory.
  await Promise.all(workers.map((worker) => worker.order<"settle">({ kind: "settle" })));
  const seconds = (performance.now() - begin) / 1000;
  const usage = await finish(jobs);
  await Promise.all(workers.map((worker) => worker.end()));

  if (progress.ran !== jobs) throw new Error(`${progress.ran} handlers ran for ${jobs} jobs`);
  await stage.expect({
    left: bystanders - progress.bystanders,
    completed: jobs + progress.bystanders,
  });
  const fifth = Math.floor(jobs / 5);
  const rate = (from: number, to: number): number =>
    (fifth / ((from === 0 ? progress.at(to) - begin : progress.at(to) - progress.at(from)) || 1)) *
    1000;
  return {
    ...usage,
    jobsPerSecond: jobs / seconds,
    handledPerSecond: (jobs / (progress.at(jobs) - begin)) * 1000,
    firstFifth: rate(0, fifth),
    lastFifth: rate(jobs - fifth, jobs),
    bystanders: progress.bystanders,
  };
}

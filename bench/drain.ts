// Lets worker processes run jobs, and times it.

import type { PeerProcess } from "./peer-process.ts";
import { addPairs, NO_PAIRS } from "./peers/pairs.ts";
import type { WorkOptions } from "./peers/protocol.ts";
import type { Stage } from "./stage.ts";
import { measureUsage, type Usage } from "./usage.ts";

export interface Drained extends Usage {
  /** Until all was written. */
  readonly jobsPerSecond: number;
  /** Until the last handler had run. */
  readonly handledPerSecond: number;
  /** Handler rate over the first and the last fifth of the jobs; NaN when that took too short. */
  readonly firstFifth: number;
  readonly lastFifth: number;
  readonly bystanders: number;
}

/** A queue in which nothing moves for so long has lost a job. */
const STUCK_MS = 120_000;

/** Workers tell every 10 ms what ran: a rate over less than this says nothing. */
const SHORTEST_MS = 50;

/** Counts what handlers of some processes did, with the times. */
export class Progress {
  ran = 0;
  bystanders = 0;
  /** Of the numbers of the jobs that ran: one that ran twice in place of another shows. */
  #sum = 0;
  readonly #marks: [ms: number, ran: number][] = [];
  #lastMove = performance.now();
  #onMove: () => void = () => undefined;

  constructor(workers: readonly PeerProcess[]) {
    for (const worker of workers) {
      worker.onRan(({ jobs, sum, bystanders }) => {
        this.ran += jobs;
        this.#sum += sum;
        this.bystanders += bystanders;
        this.#lastMove = performance.now();
        this.#marks.push([this.#lastMove, this.ran]);
        this.#onMove();
      });
    }
  }

  /** Resolves once this many jobs ran; rejects when nothing moves any more. */
  reached(jobs: number): Promise<void> {
    this.#lastMove = performance.now();
    return new Promise((resolve, reject) => {
      const watch = setInterval(() => {
        if (performance.now() - this.#lastMove < STUCK_MS) return;
        clearInterval(watch);
        reject(new Error(`${this.ran} of ${jobs} handlers ran, then nothing moved`));
      }, 1_000).unref();
      this.#onMove = () => {
        if (this.ran < jobs) return;
        clearInterval(watch);
        resolve();
      };
      this.#onMove();
    });
  }

  /** Throws unless the jobs numbered 0 to `jobs` - 1 ran once each. */
  expectEach(jobs: number): void {
    const expected = (jobs * (jobs - 1)) / 2;
    if (this.ran === jobs && this.#sum === expected) return;
    throw new Error(
      `${this.ran} handlers ran for ${jobs} jobs; their numbers add up to ${this.#sum} instead of ${expected}`,
    );
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
  const pairs = await Promise.all(
    workers.map((worker) => worker.order<"pairs">({ kind: "pairs" })),
  );
  await Promise.all(workers.map((worker) => worker.end()));

  progress.expectEach(jobs);
  stage.expectPairs(pairs.reduce(addPairs, NO_PAIRS));
  await stage.expect({
    left: bystanders - progress.bystanders,
    completed: jobs + progress.bystanders,
  });
  const fifth = Math.floor(jobs / 5);
  const rate = (beganAt: number, endedAt: number): number =>
    endedAt - beganAt < SHORTEST_MS ? Number.NaN : (fifth / (endedAt - beganAt)) * 1000;
  return {
    ...usage,
    jobsPerSecond: jobs / seconds,
    handledPerSecond: (jobs / (progress.at(jobs) - begin)) * 1000,
    firstFifth: rate(begin, progress.at(fifth)),
    lastFifth: rate(progress.at(jobs - fifth), progress.at(jobs)),
    bystanders: progress.bystanders,
  };
}

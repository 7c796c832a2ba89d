// From just before the call that enqueues a job to the start of its handler, in another process: on an idle worker, and on
// one that a third process keeps at half of what it can drain.

import { setTimeout as sleep } from "node:timers/promises";
import { drain, Progress } from "../drain.ts";
import type { Stage } from "../stage.ts";
import { percentile } from "../statistics.ts";
import { type Figures, type Load, ONE_CASE, type SetStage } from "./load.ts";

const EVERY_MS = 20;
/** The first samples pay for plans and compiling; they are dropped. */
const WARM_UP = 25;
/** How long the background runs before the samples begin. */
const BACKGROUND_WARM_UP_MS = 2_000;

const COLUMNS: Load["columns"] = [
  { figure: "p50", title: "p50 ms", digits: 2 },
  { figure: "p95", title: "p95 ms", digits: 2 },
  { figure: "p99", title: "p99 ms", digits: 2 },
  { figure: "background", title: "background jobs/s" },
];

async function sample(stage: Stage, samples: number, background: number): Promise<Figures> {
  const count = samples + WARM_UP;
  const [worker, producer, pacer] = await Promise.all([
    stage.process(),
    stage.process(),
    stage.process(),
  ]);
  const progress = new Progress([worker]);
  await worker.order<"work">({ kind: "work", options: { stamps: true } });
  const began = performance.now();
  if (background > 0) {
    await pacer.order<"pace">({ kind: "pace", perSecond: background });
    await sleep(BACKGROUND_WARM_UP_MS);
  }
  const sent = await producer.order<"emit">({ kind: "emit", jobs: count, everyMs: EVERY_MS });
  await Promise.race([progress.reached(count), worker.failure, pacer.failure]);
  const handled = progress.bystanders / ((performance.now() - began) / 1000);
  await pacer.end();
  const started = new Map(await worker.order<"settle">({ kind: "settle" }));
  progress.expectEach(count);
  const waits = sent
    .filter(([n]) => n >= WARM_UP)
    .map(([n, at]) => (started.get(n) ?? Number.NaN) - at);
  return {
    p50: percentile(waits, 50),
    p95: percentile(waits, 95),
    p99: percentile(waits, 99),
    background: background > 0 ? handled : 0,
  };
}

/** Half of what one worker drains, measured on a stage of its own. */
async function halfRate(setStage: SetStage, jobs: number): Promise<number> {
  return setStage(async (stage) => {
    await stage.fill({ jobs });
    return (await drain(stage, { jobs, workers: 1 })).jobsPerSecond / 2;
  });
}

export const latency: Load = {
  name: "latency",
  about:
    "from before the enqueue to the start of the handler, one job every 20 ms, idle worker; a lower ratio is better",
  needs: ["wake"],
  cases: () => ONE_CASE,
  columns: COLUMNS,
  run: (setStage, _case, { samples }) => setStage((stage) => sample(stage, samples, 0)),
};

export const latencyHalfLoad: Load = {
  name: "latency-half-load",
  about:
    "the same while a third process enqueues half of what the peer drains, every 50 ms; a lower ratio is better",
  needs: ["wake"],
  cases: () => ONE_CASE,
  columns: COLUMNS,
  async run(setStage, _case, { samples, jobs, backgroundRate }) {
    const background = backgroundRate > 0 ? backgroundRate : await halfRate(setStage, jobs);
    return setStage((stage) => sample(stage, samples, background));
  },
};

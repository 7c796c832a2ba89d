// Handlers that wait 10 ms, 200 at a time in one process. At most 200 / 0.010 s = 20,000 jobs per second are possible.

import { drain } from "../drain.ts";
import { type Load, ONE_CASE, USAGE_COLUMNS } from "./load.ts";

const WAIT_MS = 10;
const CONCURRENCY = 200;
const LIMIT = (CONCURRENCY / WAIT_MS) * 1000;

export const slow10ms: Load = {
  name: "slow-10ms",
  about: `handlers that wait ${WAIT_MS} ms, ${CONCURRENCY} at a time, one worker: at most ${LIMIT} jobs/s`,
  needs: ["drain", "async"],
  cases: () => ONE_CASE,
  columns: [
    { figure: "jobsPerSecond", title: "jobs/s" },
    { figure: "ofLimit", title: "of the limit", digits: 2 },
    ...USAGE_COLUMNS,
  ],
  run: (setStage, _case, { jobs }) =>
    setStage(async (stage) => {
      await stage.fill({ jobs });
      const work = { concurrency: CONCURRENCY, waitMs: WAIT_MS };
      const drained = await drain(stage, { jobs, workers: 1, work });
      return { ...drained, ofLimit: drained.jobsPerSecond / LIMIT };
    }),
};

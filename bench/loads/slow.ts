// Handlers that wait 10 ms, 200 at a time in one process: beside what 200 loops with the same wait and no queue do in a process
// of the same kind, in the same minute. On paper that is 200 / 0.010 s = 20,000 per second; timers are late, so it is less.

import { drain } from "../drain.ts";
import { type Load, ONE_CASE, USAGE_COLUMNS } from "./load.ts";

const WAIT_MS = 10;
const CONCURRENCY = 200;

export const slow10ms: Load = {
  name: "slow-10ms",
  about: `handlers that wait ${WAIT_MS} ms, ${CONCURRENCY} at a time, one worker, beside as many loops without a queue`,
  needs: ["drain", "async"],
  cases: () => ONE_CASE,
  columns: [
    { figure: "jobsPerSecond", title: "jobs/s" },
    { figure: "bare", title: "without a queue" },
    { figure: "ofBare", title: "of that", digits: 2 },
    ...USAGE_COLUMNS,
  ],
  run: (setStage, _case, { jobs }) =>
    setStage(async (stage) => {
      await stage.fill({ jobs });
      const work = { concurrency: CONCURRENCY, waitMs: WAIT_MS };
      const drained = await drain(stage, { jobs, workers: 1, work });
      const loops = await stage.process();
      const { seconds } = await loops.order<"bare">({
        kind: "bare",
        jobs,
        slots: CONCURRENCY,
        waitMs: WAIT_MS,
      });
      await loops.end();
      const bare = jobs / seconds;
      return { ...drained, bare, ofBare: drained.jobsPerSecond / bare };
    }),
};

// Jobs enqueued one by one, each awaited, by 10 concurrent loops in one process.

import { measureUsage } from "../usage.ts";
import { type Load, ONE_CASE, USAGE_COLUMNS } from "./load.ts";

const PRODUCERS = 10;
const WARM_UP = 200;
/** One by one takes long: a twentieth of the jobs, for a steady rate. */
const SHARE = 20;

export const enqueueOne: Load = {
  name: "enqueue-one",
  about: "one job per call, 10 concurrent producers in one process",
  needs: ["single"],
  cases: () => ONE_CASE,
  columns: [{ figure: "jobsPerSecond", title: "jobs/s" }, ...USAGE_COLUMNS],
  run: (setStage, _case, { jobs }) =>
    setStage(async (stage) => {
      const count = Math.max(WARM_UP, Math.round(jobs / SHARE));
      const producer = await stage.process();
      await producer.order<"produce">({ kind: "produce", jobs: WARM_UP, producers: PRODUCERS });
      const finish = await measureUsage(stage, [producer]);
      const { seconds } = await producer.order<"produce">({
        kind: "produce",
        jobs: count,
        producers: PRODUCERS,
      });
      const usage = await finish(count);
      await stage.expect({ left: WARM_UP + count, completed: 0 });
      return { jobsPerSecond: count / seconds, ...usage };
    }),
};

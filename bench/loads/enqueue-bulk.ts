// Jobs enqueued many at a time, by one process, one call after the other. Making the input is not measured.

import { measureUsage } from "../usage.ts";
import { type Load, USAGE_COLUMNS } from "./load.ts";

export const enqueueBulk: Load = {
  name: "enqueue-bulk",
  about: "many jobs per call, one call after the other",
  needs: [],
  cases: () => [
    { label: "1k a call", value: 1_000 },
    { label: "10k a call", value: 10_000 },
  ],
  columns: [{ figure: "jobsPerSecond", title: "jobs/s" }, ...USAGE_COLUMNS],
  run: (setStage, { value: chunk }, { jobs }) =>
    setStage(async (stage) => {
      const producer = await stage.process();
      // The first call plans and compiles.
      await producer.order<"enqueue">({ kind: "enqueue", backlog: { jobs: 1_000 } });
      const finish = await measureUsage(stage, [producer]);
      const { seconds } = await producer.order<"enqueue">({
        kind: "enqueue",
        backlog: { jobs, chunk },
      });
      const usage = await finish(jobs);
      await stage.expect({ left: 1_000 + jobs, completed: 0 });
      return { jobsPerSecond: jobs / seconds, ...usage };
    }),
};

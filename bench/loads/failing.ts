// One job in ten fails at its first attempt and is tried again as soon as the peer can. What a peer waits before that is its
// own (its script says how long), so the rate of the first 80 % says what failures cost and the whole what waiting adds.

import { drain } from "../drain.ts";
import { type Load, ONE_CASE, USAGE_COLUMNS } from "./load.ts";

const FAIL_EVERY = 10;
const ATTEMPTS_PER_JOB = 1 + 1 / FAIL_EVERY;

export const failing: Load = {
  name: "failing",
  about: "10 % of the jobs fail once; one worker, until all have completed",
  needs: ["drain", "retry"],
  cases: () => ONE_CASE,
  columns: [
    { figure: "jobsPerSecond", title: "jobs/s" },
    { figure: "attemptsPerSecond", title: "attempts/s" },
    { figure: "firstFifth", title: "first fifth" },
    { figure: "lastFifth", title: "last fifth" },
    ...USAGE_COLUMNS,
  ],
  run: (setStage, _case, { jobs }) =>
    setStage(async (stage) => {
      await stage.fill({ jobs });
      const drained = await drain(stage, { jobs, workers: 1, work: { failEvery: FAIL_EVERY } });
      return { ...drained, attemptsPerSecond: drained.jobsPerSecond * ATTEMPTS_PER_JOB };
    }),
};

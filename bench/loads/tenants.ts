// Jobs of many tenants, with shares as in Zipf's law, against as many jobs of one tenant. The very last job belongs to a
// tenant with no other: how many claims came before its own?

import { drain } from "../drain.ts";
import { type Load, ONE_CASE, USAGE_COLUMNS } from "./load.ts";

export const tenants: Load = {
  name: "tenants",
  about: "a backlog of many tenants with skew, one worker, against one tenant",
  needs: ["drain", "tenants"],
  cases: () => ONE_CASE,
  columns: [
    { figure: "jobsPerSecond", title: "jobs/s" },
    { figure: "one", title: "one tenant" },
    { figure: "kept", title: "many/one", digits: 2 },
    { figure: "claimsBefore", title: "claims before the lonely job's" },
    ...USAGE_COLUMNS,
  ],
  async run(setStage, _case, { jobs, tenants: count }) {
    const one = await setStage(async (stage) => {
      await stage.fill({ jobs, tenants: 1 });
      return drain(stage, { jobs, workers: 1 });
    });
    return setStage(async (stage) => {
      await stage.fill({ jobs, tenants: count });
      const many = await drain(stage, { jobs, workers: 1 });
      const asked = await stage.process();
      const claimsBefore = await asked.order<"lonely">({ kind: "lonely" });
      await asked.end();
      return {
        ...many,
        one: one.jobsPerSecond,
        kept: many.jobsPerSecond / one.jobsPerSecond,
        claimsBefore: claimsBefore ?? Number.NaN,
      };
    });
  },
};

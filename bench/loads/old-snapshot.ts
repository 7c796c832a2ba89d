// A backlog drained while another session holds a repeatable-read snapshot that is older, so that no dead row can be
// removed: does the rate hold to the end?

import { drain } from "../drain.ts";
import { type Load, ONE_CASE, USAGE_COLUMNS } from "./load.ts";

export const oldSnapshot: Load = {
  name: "old-snapshot",
  about: "a backlog drained by one worker beside a transaction that is older than it",
  needs: ["drain", "postgres"],
  cases: () => ONE_CASE,
  columns: [
    { figure: "jobsPerSecond", title: "jobs/s" },
    { figure: "firstFifth", title: "first fifth" },
    { figure: "lastFifth", title: "last fifth" },
    { figure: "kept", title: "last/first", digits: 2 },
    ...USAGE_COLUMNS,
  ],
  run: (setStage, _case, { jobs }) =>
    setStage(async (stage) => {
      const release = await stage.store.holdSnapshot(stage.url);
      try {
        await stage.fill({ jobs });
        const drained = await drain(stage, { jobs, workers: 1 });
        return { ...drained, kept: drained.lastFifth / drained.firstFifth };
      } finally {
        await release();
      }
    }),
};

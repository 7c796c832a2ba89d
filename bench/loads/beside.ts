// Some jobs drained beside many that are not their equals: future ones, or ones of lower priority. Each against the same
// drain with nothing beside it.

import { drain } from "../drain.ts";
import type { Ability } from "../peers/known.ts";
import type { Backlog } from "../peers/protocol.ts";
import { type Load, ONE_CASE, USAGE_COLUMNS } from "./load.ts";

const DAY_SECONDS = 86_400;

function besideLoad(load: {
  readonly name: string;
  readonly about: string;
  readonly needs: readonly Ability[];
  readonly others: Partial<Backlog>;
}): Load {
  return {
    name: load.name,
    about: load.about,
    needs: ["drain", ...load.needs],
    cases: () => ONE_CASE,
    columns: [
      { figure: "handledPerSecond", title: "jobs/s beside" },
      { figure: "alone", title: "jobs/s alone" },
      { figure: "kept", title: "beside/alone", digits: 2 },
      ...USAGE_COLUMNS,
    ],
    async run(setStage, _case, { besideJobs: jobs, bystanders }) {
      const alone = await setStage(async (stage) => {
        await stage.fill({ jobs });
        return drain(stage, { jobs, workers: 1 });
      });
      const beside = await setStage(async (stage) => {
        await stage.fill({ jobs: bystanders, isBystander: true, ...load.others }, { jobs });
        return drain(stage, { jobs, workers: 1, bystanders });
      });
      return {
        ...beside,
        alone: alone.handledPerSecond,
        kept: beside.handledPerSecond / alone.handledPerSecond,
      };
    },
  };
}

export const besideFuture = besideLoad({
  name: "beside-future",
  about: "jobs drained beside many that are due in a day, until the last handler ran",
  needs: ["future"],
  others: { delaySeconds: DAY_SECONDS },
});

export const besideLow = besideLoad({
  name: "beside-low",
  about: "jobs drained beside many of lower priority, until the last handler ran",
  needs: ["priority"],
  others: { isLow: true },
});

// A backlog drained by worker processes with a handler per job that does nothing: as it came, after its tables were analyzed, and with
// payloads of 1 KiB.

import { drain as drainStage } from "../drain.ts";
import { type Load, USAGE_COLUMNS } from "./load.ts";

function drainLoad(
  name: string,
  about: string,
  { payloadBytes, isAnalyzed = false }: { payloadBytes?: number; isAnalyzed?: boolean } = {},
): Load {
  return {
    name,
    about,
    needs: ["drain"],
    cases: ({ workers }) =>
      workers.map((value) => ({ label: `${value} worker${value === 1 ? "" : "s"}`, value })),
    columns: [{ figure: "jobsPerSecond", title: "jobs/s" }, ...USAGE_COLUMNS],
    run: (setStage, { value: workers }, { jobs }) =>
      setStage(async (stage) => {
        await stage.fill({ jobs, ...(payloadBytes !== undefined && { payloadBytes }) });
        if (isAnalyzed) await stage.analyze();
        return { ...(await drainStage(stage, { jobs, workers })) };
      }),
  };
}

export const drain = drainLoad("drain", "a backlog, until the end of the last job is written");
export const drainAnalyzed = drainLoad("drain-analyzed", "the same once the tables were analyzed", {
  isAnalyzed: true,
});
export const drain1k = drainLoad("drain-1k", "the same with payloads of 1 KiB", {
  payloadBytes: 1_024,
});

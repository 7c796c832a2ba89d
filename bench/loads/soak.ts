// A steady run of some minutes, enqueueing and draining at the same time with a short backlog, and what it leaves behind:
// autovacuum takes part, with its default naptime of a minute.

import { setTimeout as sleep } from "node:timers/promises";
import { Progress } from "../drain.ts";
import { median } from "../statistics.ts";
import { measureUsage } from "../usage.ts";
import { type Load, USAGE_COLUMNS } from "./load.ts";

const CHUNK = 2_000;
/** The producer keeps so many jobs in the queue. */
const BACKLOG = 20_000;

const LEFTOVERS = `
  select coalesce(sum(n_dead_tup), 0) as dead, sum(pg_total_relation_size(relid)) / 1e6 as mb,
    coalesce(max(n_dead_tup), 0) as worst
  from pg_stat_user_tables`;

export const soak10: Load = {
  name: "soak10",
  about: "enqueue and drain at once, steadily; one worker, one producer, a backlog of 20,000",
  needs: ["drain", "postgres", "wake"],
  cases: ({ soakMinutes: value }) => [{ label: `${value} min`, value }],
  columns: [
    { figure: "jobsPerSecond", title: "jobs/s" },
    { figure: "firstMinute", title: "first minute" },
    { figure: "lastMinute", title: "last minute" },
    { figure: "medianMinute", title: "median minute" },
    { figure: "worstMinute", title: "slowest minute" },
    { figure: "deadRows", title: "dead rows at the end" },
    { figure: "deadInOneTable", title: "of one table" },
    { figure: "megabytes", title: "MB of tables and indexes" },
    ...USAGE_COLUMNS,
  ],
  run: (setStage, { value: minutes }) =>
    setStage(async (stage) => {
      const [worker, producer] = await Promise.all([stage.process(), stage.process()]);
      const progress = new Progress([worker]);
      let made = 0;
      const produce = async (): Promise<void> => {
        const backlog = { jobs: CHUNK, chunk: CHUNK, from: made };
        made += CHUNK;
        await producer.order<"enqueue">({ kind: "enqueue", backlog });
      };
      while (made < BACKLOG) await produce();
      const finish = await measureUsage(stage, [worker]);
      await worker.order<"work">({ kind: "work", options: {} });
      const begin = performance.now();
      const elapsedMinutes = (): number => (performance.now() - begin) / 60_000;
      const perMinute: number[] = [];
      let ranBefore = 0;
      let minuteBegan = begin;
      while (elapsedMinutes() < minutes) {
        if (made - progress.ran < BACKLOG) await produce();
        else await Promise.race([sleep(5), worker.failure]);
        const minute = Math.min(perMinute.length + 1, minutes);
        if (elapsedMinutes() < minute) continue;
        const seconds = (performance.now() - minuteBegan) / 1000;
        perMinute.push((progress.ran - ranBefore) / seconds);
        ranBefore = progress.ran;
        minuteBegan = performance.now();
      }
      const jobsPerSecond = progress.ran / ((performance.now() - begin) / 1000);
      const usage = await finish(progress.ran);
      const [left] = await stage.store.look(stage.url, LEFTOVERS);
      await Promise.race([progress.reached(made), worker.failure]);
      await worker.order<"settle">({ kind: "settle" });
      progress.expectEach(made);
      await stage.expect({ left: 0, completed: made });
      return {
        jobsPerSecond,
        firstMinute: perMinute[0] ?? Number.NaN,
        lastMinute: perMinute.at(-1) ?? Number.NaN,
        medianMinute: median(perMinute),
        worstMinute: Math.min(...perMinute),
        ...Object.fromEntries(perMinute.map((rate, index) => [`minute${index + 1}`, rate])),
        deadRows: Number(left?.["dead"]),
        deadInOneTable: Number(left?.["worst"]),
        megabytes: Number(left?.["mb"]),
        ...usage,
      };
    }),
};

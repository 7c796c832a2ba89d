// A worker with nothing to do: what it asks of the database, and whether it grows.

import { setTimeout as sleep } from "node:timers/promises";
import type { Load } from "./load.ts";

/** The start is not measured, and the server's statistics are written a moment later. */
const SETTLE_MS = 3_000;

const TRANSACTIONS = `
  select xact_commit + xact_rollback as n from pg_stat_database where datname = current_database()`;

export const idle: Load = {
  name: "idle",
  about: "one worker and an empty queue; a lower ratio is better",
  needs: ["wake"],
  cases: ({ idleSeconds: value }) => [{ label: `${value} s`, value }],
  columns: [
    { figure: "transactionsPerSecond", title: "transactions/s", digits: 2 },
    { figure: "databaseCpuPerMinute", title: "DB CPU s/min", digits: 3 },
    { figure: "peerCpuPerMinute", title: "worker CPU s/min", digits: 3 },
    { figure: "mbBefore", title: "MB before" },
    { figure: "mbAfter", title: "MB after" },
  ],
  run: (setStage, { value: seconds }) =>
    setStage(async (stage) => {
      const worker = await stage.process();
      await worker.order<"work">({ kind: "work", options: {} });
      await sleep(SETTLE_MS);
      // Each look is a transaction of its own, the first included in what the second sees.
      const look = async (): Promise<number> =>
        Number((await stage.store.look(stage.url, TRANSACTIONS))[0]?.["n"]);
      const mbBefore = worker.memoryMb("VmRSS");
      const before = await look();
      const cpuBefore = worker.cpuSeconds();
      const databaseBefore = stage.store.cpuSeconds();
      await Promise.race([sleep(seconds * 1000), worker.failure]);
      const databaseCpu = stage.store.cpuSeconds() - databaseBefore;
      const peerCpu = worker.cpuSeconds() - cpuBefore;
      const after = await look();
      return {
        transactionsPerSecond: (after - before) / seconds,
        databaseCpuPerMinute: (databaseCpu / seconds) * 60,
        peerCpuPerMinute: (peerCpu / seconds) * 60,
        mbBefore,
        mbAfter: worker.memoryMb("VmRSS"),
      };
    }),
};

// pg-boss 12: batches of 500 by 2 local workers, LISTEN on, fetching on while batches are full, completion reported per
// job as its API has it (perJobResults). It has no way to run single handlers of a batch one by one, so all of a batch run
// together. Failed jobs are retried at once. Completed rows are kept (its default is 7 days).

import type { JobInsert } from "pg-boss";
import { PgBoss } from "pg-boss";
import type { JobSpec, Payload } from "./protocol.ts";
import { serve } from "./serve.ts";

const QUEUE = "noop";
const LOCAL_WORKERS = 2;
/** Larger numbers are more urgent; 0 is its default. */
const LOW = -10;

let boss: PgBoss;
let workId: string | undefined;

async function open(url: string): Promise<PgBoss> {
  const opened = new PgBoss({ connectionString: url, max: 20, useListenNotify: true });
  opened.on("error", () => undefined);
  await opened.start();
  return opened;
}

function toJob({ payload, delaySeconds, isLow }: JobSpec): JobInsert {
  return {
    data: payload,
    ...(delaySeconds !== undefined && { startAfter: delaySeconds }),
    ...(isLow && { priority: LOW }),
  };
}

async function number(text: string): Promise<number> {
  const { rows } = await boss.getDb().executeSql(text, []);
  return Number((rows as readonly { n: string }[])[0]?.n);
}

serve({
  async setup(url) {
    const own = await open(url);
    await own.createQueue(QUEUE, { notify: true, retryLimit: 2, retryDelay: 0 });
    await own.stop({ graceful: false });
  },
  async connect(url) {
    boss = await open(url);
  },
  async enqueueOne({ payload }) {
    await boss.send(QUEUE, payload);
  },
  async enqueueMany(jobs) {
    await boss.insert(QUEUE, jobs.map(toJob));
  },
  async work({ concurrency }, handle) {
    const options = {
      batchSize: concurrency === undefined ? 500 : concurrency / LOCAL_WORKERS,
      localConcurrency: LOCAL_WORKERS,
      burstWhenBatchFull: true,
      perJobResults: true,
    } as const;
    workId = await boss.work<Payload, unknown, typeof options>(QUEUE, options, (jobs) =>
      Promise.all(
        jobs.map(async ({ id, data }) => {
          try {
            await handle(data);
            return { id, status: "completed" as const };
          } catch {
            return { id, status: "failed" as const };
          }
        }),
      ),
    );
  },
  async count() {
    return {
      left: await number("select count(*) as n from pgboss.job where state < 'completed'"),
      completed: await number("select count(*) as n from pgboss.job where state = 'completed'"),
    };
  },
  async settle() {
    if (workId !== undefined) await boss.offWork(QUEUE, { id: workId, wait: true });
  },
});

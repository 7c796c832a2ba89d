// Millrace with its defaults: a handler and a promise for each job, full history kept, 24 handlers at a time, a pool of 10. Failed
// jobs wait 10 ms.

import { migrate } from "../../src/db/migrate.ts";
import { connect } from "../../src/db/postgres-js.ts";
import type { EnqueuedJob, EnqueueOptions, Sql } from "../../src/index.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  implement,
  type Queue,
  type Worker,
} from "../../src/index.ts";
import { LONELY } from "./backlog.ts";
import type { JobSpec, Payload } from "./protocol.ts";
import { serve } from "./serve.ts";

const noop = defineJob<Payload, void>("noop", { backoff: { base: "10ms", jitter: 0 } });
let sql: Sql;
let queue: Queue;
let worker: Worker | undefined;
let told: readonly EnqueuedJob[] = [];

function toOptions({ delaySeconds, isLow, tenant }: JobSpec): EnqueueOptions {
  return {
    ...(delaySeconds !== undefined && { delay: delaySeconds * 1000 }),
    ...(isLow && { priority: "low" }),
    ...(tenant !== undefined && { tenantId: tenant }),
  };
}

async function number(text: string, params: readonly string[] = []): Promise<number> {
  const [row] = await sql.query(text, params);
  return Number(row?.["n"]);
}

serve({
  async setup(url) {
    const connection = connect(url);
    await migrate(connection);
    await connection.close();
  },
  async connect(url) {
    sql = connect(url, { max: 10 });
    queue = createQueue({ sql });
    await sql.query("select 1");
  },
  async enqueueOne(job) {
    await queue.enqueue(noop, job.payload, toOptions(job));
  },
  async enqueueMany(jobs) {
    const [first] = jobs;
    if (first === undefined) return;
    const payloads = jobs.map(({ payload }) => payload);
    // Options of its own for each job cost something; only tenants differ from job to job.
    const made = await queue.enqueueMany(
      noop,
      payloads,
      first.tenant === undefined
        ? toOptions(first)
        : (_payload, index) => toOptions(jobs[index] ?? first),
    );
    told = made;
  },
  idsTold: () => told.map(({ id }) => id),
  async work({ concurrency = 24 }, handle) {
    worker = createWorker({
      sql,
      handlers: [implement(noop, ({ input, id }) => handle(input, id))],
      concurrency,
    });
    await worker.start();
  },
  async count() {
    return {
      left: await number(
        `select (select count(*) from queue.ready) + (select count(*) from queue.scheduled)
           + (select coalesce(sum(cardinality(job_ids)), 0) from queue.leases) as n`,
      ),
      completed: await number("select count(*) as n from queue.runs where outcome = 'completed'"),
    };
  },
  lonely: () =>
    number(
      `select count(distinct run.lease_id) - 1 as n from queue.runs as run
         where run.lease_id <= (
           select own.lease_id from queue.runs as own
             join queue.jobs as job on job.id = own.job_id
             join queue.tenants as tenant on tenant.id = job.tenant_id
             where tenant.name = $1
         )`,
      [LONELY],
    ),
  async settle() {
    await worker?.stop();
  },
});

import assert from "node:assert/strict";
import { after, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { connect } from "../../src/db/postgres-js.ts";
import {
  createWorker,
  defineJob,
  type HandlerContext,
  implement,
  silentLogger,
} from "../../src/index.ts";
import { randomFrom } from "../crash/plan.ts";
import type { TestSql } from "../support/connect.ts";
import { eventually } from "../support/eventually.ts";
import { seedFromEnvironment } from "../support/seed.ts";
import { describeOnEachServer } from "../support/suite.ts";

const TYPES = ["pay", "refund", "mail"] as const;
const PRIORITIES = ["critical", "high", "normal", "low"] as const;
const TENANTS = [null, null, "ann", "ben"] as const;
const PRODUCERS = 8;
const TRANSACTIONS = 50;
/** Jobs that a transaction enqueues at most. */
const MOST_JOBS = 3;

/** What a job's payload holds, and no other job's. */
interface Own {
  readonly nonce: string;
  readonly type: string;
  readonly tenant: string | null;
}

/** The order of claims, of ids, of commits and of rows on disk all differ here, as they do between ordinary producers. */
describeOnEachServer("jobs of producers that overlap", (context) => {
  const seed = seedFromEnvironment();

  it(`reach the handler of their own type with their own id, tenant and payload, and keep their own ends (seed ${seed})`, async () => {
    const { db } = context;
    await db.sql`create table if not exists public.effects (job_id bigint not null, nonce text not null)`;
    const wrong: string[] = [];
    const ran: Own[] = [];
    const handlers = TYPES.map((type) =>
      implement(defineJob(type, { maxRetries: 2, backoff: { base: 0 } }), (job) =>
        run(type, job, wrong, ran),
      ),
    );
    const workers = [1, 2].map((n) => {
      const sql = connect(db.url);
      const worker = createWorker({
        sql,
        handlers,
        name: `identity ${n}`,
        // Small claims of neighbours, and now and then a job that is brought.
        concurrency: 3 * n,
        prefetch: 0,
        pollIntervalMs: 20,
        listen: n === 1,
        logger: silentLogger,
      });
      return { sql, worker };
    });
    after(() => Promise.all(workers.map(({ sql }) => sql.close())));
    await Promise.all(workers.map(({ worker }) => worker.start()));

    const random = randomFrom(seed);
    const told = (
      await Promise.all(
        Array.from({ length: PRODUCERS }, (_, n) => produce(db.connect({ max: 1 }), n, random)),
      )
    ).flat();
    const whenEnded = eventually(
      async () => {
        const [row] = await db.sql<{ n: number }[]>`
          select count(*)::integer as n from public.job_queue
          where status in ('completed', 'failed') and type = any (${[...TYPES]})`;
        return row?.n === told.length;
      },
      { timeoutMs: 30_000 },
    );
    await whenEnded.finally(() => Promise.all(workers.map(({ worker }) => worker.stop())));

    assert.deepEqual(wrong, []);
    assert.deepEqual(
      new Set(ran.map(({ nonce }) => nonce)),
      new Set(told.map(({ own }) => own.nonce)),
    );
    const rows = await db.sql<{ id: string; own: Own; type: string; tenant_id: string | null }[]>`
      select id::text, payload as own, type, tenant_id from public.job_queue where type = any (${[...TYPES]})`;
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const { id, own } of told) assert.deepEqual(byId.get(id)?.own, own);
    // What was written at the end of each attempt names the nonce of the job that it was written for.
    const [stored] = await db.sql<
      { results: number; errors: number; effects: number; n: number }[]
    >`
      select
        count(*) filter (where run.result ->> 'nonce' <> job.payload ->> 'nonce')::integer as results,
        count(*) filter (where run.error ->> 'message' <> job.payload ->> 'nonce')::integer as errors,
        count(*) filter (where effect.nonce <> job.payload ->> 'nonce')::integer as effects,
        count(effect.job_id)::integer as n
      from queue.runs as run join queue.jobs as job on job.id = run.job_id
      join queue.types as type on type.id = job.type_id
      left join public.effects as effect on effect.job_id = run.job_id and run.outcome = 'completed'
      where type.name = any (${[...TYPES]})`;
    assert.deepEqual({ ...stored, n: 0 }, { results: 0, errors: 0, effects: 0, n: 0 });
    assert.ok((stored?.n ?? 0) > 50, "effects were written");
  });
});

/** Some return, some throw first, some complete in the transaction of an effect. */
async function run(
  type: string,
  job: HandlerContext,
  wrong: string[],
  ran: Own[],
): Promise<unknown> {
  const own = job.input as Own;
  ran.push(own);
  if (own.type !== type || job.type !== type || own.tenant !== job.tenantId) {
    wrong.push(`${job.id}: ${JSON.stringify(own)} ran as ${job.type} of ${job.tenantId}`);
  }
  const kind = Number(own.nonce.split("-").at(-1)) % 5;
  if (kind === 0 && job.attempt.number === 1) throw new Error(own.nonce);
  if (kind === 1) {
    await job.commitWith(async (tx) => {
      await tx.query("insert into public.effects values ($1::text::bigint, $2)", [
        job.id,
        own.nonce,
      ]);
      return { nonce: own.nonce };
    });
    return undefined;
  }
  if (kind === 2) await turn();
  return { nonce: own.nonce };
}

/** One session: transactions of several jobs, which other sessions' statements come between. */
async function produce(
  sql: TestSql,
  producer: number,
  random: () => number,
): Promise<{ id: string; own: Own }[]> {
  const told: { id: string; own: Own }[] = [];
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  for (let at = 0; at < TRANSACTIONS; at += 1) {
    const made: { id: string; own: Own }[] = [];
    await sql.begin(async (tx) => {
      const count = 1 + Math.floor(random() * MOST_JOBS);
      for (let n = 0; n < count; n += 1) {
        const own: Own = {
          nonce: `${producer}-${at}-${n}`,
          type: pick(TYPES),
          tenant: pick(TENANTS),
        };
        const [row] = await tx<{ id: string }[]>`
          select public.enqueue_job(${own.type}, ${JSON.stringify(own)}::text::jsonb, ${pick(PRIORITIES)},
            p_tenant_id => ${own.tenant})::text as id`;
        made.push({ id: row?.id ?? "none", own });
      }
    });
    told.push(...made);
  }
  await sql.end();
  return told;
}

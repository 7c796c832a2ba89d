import type { TestSql } from "./connect.ts";
import type { Acknowledgement, Identified } from "./identity.ts";

/** A job as `enqueue_jobs` takes it. */
export interface ShuffledJob {
  readonly type: string;
  readonly payload: Identified;
  readonly idempotency_key: string;
  readonly priority?: string;
  readonly tenant_id?: string | null;
  readonly queue?: string;
  readonly max_retries?: number;
  readonly options?: object;
}

class Unwanted extends Error {}

/**
 * Enqueues jobs as ordinary producers do who get into each other's way: rows are not written in the order of their ids. `late` draws
 * its id and then waits for its key, which an open transaction holds and gives up again; `between` come one by one and `bulk` in one
 * call meanwhile. Takes three sessions of the pool at a time. Types and tenants must be known: the first job of one keeps others waiting
 * until its transaction ends. After a failure all may be enqueued again, by the same keys.
 */
export async function enqueueShuffled(
  sql: TestSql,
  {
    late,
    between,
    bulk = [],
  }: {
    readonly late: ShuffledJob;
    readonly between: readonly ShuffledJob[];
    readonly bulk?: readonly ShuffledJob[];
  },
): Promise<Acknowledgement[]> {
  const told: Acknowledgement[] = [];
  let waiting: Promise<unknown> = Promise.resolve();
  await sql
    .begin(async (holder) => {
      await holder`set local idle_in_transaction_session_timeout = '10s'`;
      await enqueueOne(holder, late);
      waiting = enqueueOne(sql, late).then((one) => told.push(one));
      // It may fail before it is awaited.
      waiting.catch(() => undefined);
      for (const job of between) told.push(await enqueueOne(sql, job));
      if (bulk.length > 0) told.push(...(await enqueueMany(sql, bulk)));
      throw new Unwanted();
    })
    .catch((error: unknown) => {
      if (!(error instanceof Unwanted)) throw error;
    });
  await waiting;
  return told;
}

async function enqueueOne(
  sql: Pick<TestSql, "unsafe">,
  job: ShuffledJob,
): Promise<Acknowledgement> {
  const [row] = await sql.unsafe<{ id: string }[]>(
    `select public.enqueue_job(
       job ->> 'type', job -> 'payload', coalesce(job ->> 'priority', 'normal'), null, job ->> 'tenant_id', job ->> 'queue',
       (job ->> 'max_retries')::integer, null, job ->> 'idempotency_key', job -> 'options')::text as id
     from (select $1::text::jsonb as job) as given`,
    [JSON.stringify(job)],
  );
  return { id: row?.id ?? "", nonce: job.payload.who.nonce };
}

/** In one call, in their order. */
export async function enqueueMany(
  sql: TestSql,
  jobs: readonly ShuffledJob[],
): Promise<Acknowledgement[]> {
  const rows = await sql<{ id: string }[]>`
    select made.id::text from public.enqueue_jobs(${JSON.stringify(jobs)}::text::jsonb) as made order by made.ordinal`;
  return rows.map(({ id }, n) => ({ id, nonce: jobs[n]?.payload.who.nonce ?? "" }));
}

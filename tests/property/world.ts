import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { prepareLook } from "./compare.ts";

export const WORKERS: readonly string[] = ["ada", "bob", "eve"];
export const TYPES: readonly string[] = ["mail", "render", "payout"];
/** Queues that are no type: one serves tenants in turn, one is strictly first in, first out. */
export const MIXED = "mixed";
export const FIFO = "fifo";
export const QUEUES: readonly string[] = [...TYPES, MIXED, FIFO];
export const TENANTS: readonly string[] = ["ann", "ben", "cat"];

/** The real system, with a clock that stands still unless it is told to move. */
export interface World {
  readonly sql: TestSql;
  /** Steps taken and compared since it was made. */
  steps: number;
  /** Number of each worker by name. */
  readonly workers: Map<string, number>;
  /** Ids of names, as `queue.advance` takes them. */
  readonly typeIds: ReadonlyMap<string, number>;
  readonly queueIds: ReadonlyMap<string, number>;
  /** What the last `queue.advance` of a worker returned, to go on from there. */
  readonly marks: Map<string, unknown>;
  advanceClock(ms: number): Promise<void>;
  /** Microseconds since 1970. */
  now(): Promise<number>;
  signIn(): Promise<void>;
  /** Forgets all jobs. */
  reset(): Promise<void>;
}

export async function createWorld(db: TestDatabase): Promise<World> {
  // Two steps that happen at the same moment must be told apart by rules, not by luck; and what is due must be known.
  await db.superSql`
    create or replace function queue.clock() returns timestamptz
    language sql volatile parallel safe security definer set search_path = pg_catalog, pg_temp
    as $$ select timestamptz '2030-01-01 00:00:00+00' + (select clock.skew from test.clock) $$`;
  await db.superSql`update test.clock set skew = '0'`;
  const sql = db.connect({ max: 1 });
  // Small tables with wrong statistics: compiling a query would take longer than running it.
  await sql`set jit = off`;
  await prepareLook(sql);
  const queueIds = await internNames(sql);
  await sql`update queue.queues set is_fifo = true where name = ${FIFO}`;
  const types = await sql<{ id: number; name: string }[]>`select id, name from queue.types`;
  const workers = new Map<string, number>();
  const marks = new Map<string, unknown>();
  return {
    sql,
    steps: 0,
    workers,
    marks,
    queueIds,
    typeIds: new Map(types.map(({ id, name }) => [name, id])),
    advanceClock: (ms) => db.advance(ms),
    async now() {
      const [row] = await sql<{ us: string }[]>`
        select (extract(epoch from queue.clock()) * 1000000)::bigint::text as us`;
      return Number(row?.us);
    },
    async signIn() {
      for (const name of WORKERS) {
        const [row] = await sql<{ worker: number }[]>`
          select (queue.register_worker(${name}, null, null, null) ->> 'worker')::integer as worker`;
        workers.set(name, row?.worker ?? -1);
      }
    },
    async reset() {
      marks.clear();
      await sql.unsafe(FORGET_ALL);
    },
  };
}

/** Every type on its own queue and on the two shared ones, and the tenants. */
async function internNames(sql: TestSql): Promise<Map<string, number>> {
  await sql`
    select queue.intern_type_queue(queue.intern_type(type.name), queue.intern_queue(line.name))
    from unnest(${[...TYPES]}::text[]) as type (name),
      unnest(${[...QUEUES]}::text[]) as line (name)
    where line.name = type.name or line.name in (${MIXED}, ${FIFO})`;
  await sql`select queue.intern_tenant(given.name) from unnest(${[...TENANTS]}::text[]) as given (name)`;
  const queues = await sql<{ id: number; name: string }[]>`select id, name from queue.queues`;
  return new Map(queues.map(({ id, name }) => [name, id]));
}

const FORGET_ALL = `
  delete from queue.ready; delete from queue.scheduled; delete from queue.waiting; delete from queue.dependencies;
  delete from queue.leases; delete from queue.bells; delete from queue.dead_letters; delete from queue.idempotency_keys;
  delete from queue.cancellations; delete from queue.progress; delete from queue.workers;
  delete from queue.runs; delete from queue.jobs;
  update queue.queues set is_paused = false, paused_at = null, paused_reason = null where is_paused;
`;

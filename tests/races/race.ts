import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import type postgres from "postgres";
import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { backendPid, eventually } from "../support/eventually.ts";

/** A job as a worker holds it. */
export interface Held {
  readonly id: string;
  readonly lease: string;
}

/** Three sessions, and jobs of a type that no other test uses. */
export interface Race {
  readonly db: TestDatabase;
  readonly type: string;
  readonly ann: TestSql;
  readonly bob: TestSql;
  readonly eve: TestSql;
  /** Enqueues a job of the test's type, in autocommit or in the session given. */
  enqueue(options?: EnqueueOptions): Promise<string>;
  /** Claims up to `batch` jobs of the test's type. */
  claim(options?: { by?: TestSql; batch?: number; seconds?: number }): Promise<Held[]>;
  /** Enqueues one job and claims it. */
  hold(options?: EnqueueOptions & { seconds?: number }): Promise<Held>;
  status(id: string): Promise<string | undefined>;
  /** The trail of a job: `outcome>status` of each row. */
  trail(id: string): Promise<string[]>;
  /** Starts a statement and resolves once it waits for a lock. Fails when it ends without having waited. */
  untilItWaits<T extends readonly postgres.MaybeRow[]>(
    session: TestSql,
    statement: postgres.PendingQuery<T>,
  ): Promise<{ readonly answer: Promise<postgres.RowList<T>> }>;
}

export interface EnqueueOptions {
  readonly by?: TestSql;
  readonly parents?: readonly string[];
  readonly maxRetries?: number;
  readonly key?: string;
  readonly tenant?: string;
  readonly runAnyway?: boolean;
}

interface Sessions {
  readonly ann: TestSql;
  readonly bob: TestSql;
  readonly eve: TestSql;
  readonly pids: ReadonlyMap<TestSql, number>;
}

/** Sessions are opened once for a database; each test leaves them as it found them. */
const opened = new WeakMap<TestDatabase, Sessions>();
let count = 0;

/** Runs a test with three sessions. After a failed one they are ended, with the locks they hold. */
export async function withRace(
  db: TestDatabase,
  test: (race: Race) => Promise<void>,
): Promise<void> {
  const sessions = opened.get(db) ?? (await open(db));
  opened.delete(db);
  const { ann, bob, eve, pids } = sessions;
  count += 1;
  const type = `race-${count}`;
  try {
    await test({
      db,
      type,
      ann,
      bob,
      eve,
      ...makeSteps(db, type),
      untilItWaits: (session, statement) => untilItWaits(db, pids.get(session) ?? -1, statement),
    });
    for (const session of pids.keys()) await session`rollback`;
    for (const session of pids.keys()) await session`reset lock_timeout`;
    opened.set(db, sessions);
  } catch (error) {
    for (const session of pids.keys()) void session.end({ timeout: 0 });
    await db.superSql`select pg_terminate_backend(pid) from unnest(${[...pids.values()]}::integer[]) as pid`;
    throw error;
  }
}

async function open(db: TestDatabase): Promise<Sessions> {
  const [ann, bob, eve] = [1, 2, 3].map(() => db.connect({ max: 1 }));
  assert.ok(ann && bob && eve);
  const pids = new Map<TestSql, number>();
  for (const session of [ann, bob, eve]) pids.set(session, await backendPid(session));
  return { ann, bob, eve, pids };
}

function makeSteps(
  db: TestDatabase,
  type: string,
): Pick<Race, "enqueue" | "claim" | "hold" | "status" | "trail"> {
  const enqueue: Race["enqueue"] = async ({ by = db.sql, ...options } = {}) => {
    const settings = options.runAnyway ? '{"on_parent_failure": "run"}' : null;
    const [row] = await by<{ id: string }[]>`
      select public.enqueue_job(
        p_type => ${type}, p_max_retries => ${options.maxRetries ?? null}, p_tenant_id => ${options.tenant ?? null},
        p_depends_on => ${options.parents ? [...options.parents] : null}::bigint[],
        p_idempotency_key => ${options.key ?? null}, p_options => ${settings}::text::jsonb)::text as id`;
    assert.ok(row);
    return row.id;
  };
  const claim: Race["claim"] = async ({ by = db.sql, batch = 1, seconds = 60 } = {}) => {
    const rows = await by<Held[]>`
    select id::text, lease_id::text as lease
    from public.get_next_job(${workerName(by)}, ${[type]}::text[], ${batch}, null, ${seconds})`;
    return [...rows];
  };
  return {
    enqueue,
    claim,
    async hold({ seconds = 60, ...options } = {}) {
      const id = await enqueue(options);
      const [held] = await claim({ seconds });
      assert.equal(held?.id, id);
      return held;
    },
    async status(id) {
      const [row] = await db.sql<{ status: string }[]>`
        select status from public.job_queue where id = ${id}`;
      return row?.status;
    },
    async trail(id) {
      const rows = await db.sql<{ step: string }[]>`
        select outcome || '>' || to_status as step from queue.runs where job_id = ${id} order by lease_id`;
      return rows.map(({ step }) => step);
    },
  };
}

const names = new WeakMap<TestSql, string>();

/** Each session is a worker of its own. */
export function workerName(session: TestSql): string {
  const known = names.get(session) ?? `racer ${randomUUID()}`;
  names.set(session, known);
  return known;
}

async function untilItWaits<T extends readonly postgres.MaybeRow[]>(
  db: TestDatabase,
  pid: number,
  statement: postgres.PendingQuery<T>,
): Promise<{ readonly answer: Promise<postgres.RowList<T>> }> {
  let isOver = false;
  const answer: Promise<postgres.RowList<T>> = Promise.resolve(statement.execute()).finally(() => {
    isOver = true;
  });
  answer.catch(() => {}); // whoever awaits the answer hears of it
  await eventually(async () => {
    const waiting = await db.superSql`select 1 from pg_locks where pid = ${pid} and not granted`;
    return isOver || waiting.length > 0;
  });
  if (isOver) assert.fail(`it did not wait, it answered ${JSON.stringify(await answer)}`);
  return { answer };
}

/** From now on a statement of this session fails instead of waiting for a lock. */
export async function neverWait(session: TestSql): Promise<void> {
  await session`set lock_timeout = '100ms'`;
}

import { setTimeout as delay } from "node:timers/promises";
import type { TestSql } from "../support/connect.ts";
import { BULK, makePlan, PLAIN, type Random, WORK } from "./plan.ts";

export interface ProducerOptions {
  readonly sql: TestSql;
  readonly random: Random;
  readonly stallMs: number;
  /** No more jobs are enqueued while so many are open. */
  readonly backlog: number;
}

/** Enqueues jobs and meddles with them, all through a database that goes away now and then. */
export interface Producer {
  /** Ids of jobs whose enqueue was acknowledged. */
  readonly acknowledged: readonly string[];
  /** Calls whose answer never came; they were made again with the same keys. */
  readonly repeated: number;
  /** Ends once everything that was begun is acknowledged. */
  stop(): Promise<void>;
}

const TYPES = [WORK.type, WORK.type, WORK.type, BULK.type, PLAIN];
const CALL_SIZE = 20;

export function startProducer(options: ProducerOptions): Producer {
  const { sql, random } = options;
  const acknowledged: string[] = [];
  let repeated = 0;
  let isStopping = false;
  let calls = 0;

  async function produce(): Promise<void> {
    while (!isStopping) {
      if (await isFull(options)) {
        await delay(50);
        continue;
      }
      calls += 1;
      const jobs = JSON.stringify(makeCall(calls, options));
      acknowledged.push(...(await untilAcknowledged(jobs)));
    }
  }

  /** An answer that got lost may have been a commit: the keys find the jobs of the first call. */
  async function untilAcknowledged(jobs: string): Promise<string[]> {
    for (;;) {
      try {
        const rows = await sql<{ id: string }[]>`
          select id::text from public.enqueue_jobs(${jobs}::text::jsonb)`;
        return rows.map(({ id }) => id);
      } catch {
        repeated += 1;
        await delay(100);
      }
    }
  }

  async function meddle(): Promise<void> {
    while (!isStopping) {
      const id = acknowledged[Math.floor(random() * acknowledged.length)] ?? "0";
      const newest = acknowledged.at(-1) ?? "0";
      await sql`
        select public.cancel_job(${newest}, 'not wanted'), public.retry_job(${id}, 'once more'),
          (select count(*) from public.redrive_jobs(p_limit => 2)), queue.maintain()`.catch(
        () => {},
      );
      await delay(250);
    }
  }

  const running = [produce(), meddle()];
  return {
    acknowledged,
    get repeated() {
      return repeated;
    },
    async stop() {
      isStopping = true;
      await Promise.all(running);
    },
  };
}

/** Jobs of one call; some wait for the one before them. */
function makeCall(call: number, { random, stallMs }: ProducerOptions): object[] {
  return Array.from({ length: CALL_SIZE }, (_, n) => ({
    type: TYPES[Math.floor(random() * TYPES.length)],
    payload: makePlan(random, stallMs),
    idempotency_key: `${call}/${n}`,
    max_retries: random() < 0.05 ? 0 : 8,
    tenant_id: random() < 0.5 ? `tenant-${Math.floor(random() * 5)}` : null,
    options: {
      backoff: { base_ms: 100, cap_ms: 1000 },
      ...(random() < 0.5 && { on_parent_failure: "run" }),
    },
    ref: `r${n}`,
    ...(n > 0 && random() < 0.15 && { depends_on_refs: [`r${n - 1}`] }),
  }));
}

/** While the database is away nobody knows; then one more call does no harm. */
async function isFull({ sql, backlog }: ProducerOptions): Promise<boolean> {
  try {
    const [row] = await sql<{ open: number }[]>`
      select ((select count(*) from queue.ready) + (select count(*) from queue.waiting)
        + (select count(*) from queue.scheduled))::integer as open`;
    return (row?.open ?? 0) >= backlog;
  } catch {
    return false;
  }
}

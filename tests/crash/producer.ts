import { setTimeout as delay } from "node:timers/promises";
import type { TestSql } from "../support/connect.ts";
import type { Acknowledgement } from "../support/identity.ts";
import { enqueueMany, enqueueShuffled, type ShuffledJob } from "../support/shuffled-enqueue.ts";
import { BULK, makePlan, PAIRS, PLAIN, type Random, WORK } from "./plan.ts";

export interface ProducerOptions {
  readonly sql: TestSql;
  readonly random: Random;
  readonly stallMs: number;
  /** No more jobs are enqueued while so many are open. */
  readonly backlog: number;
}

/** Enqueues jobs and meddles with them, all through a database that goes away now and then. */
export interface Producer {
  /** Jobs whose enqueue was acknowledged. */
  readonly acknowledged: readonly Acknowledgement[];
  /** Calls whose answer never came; they were made again with the same keys. */
  readonly repeated: number;
  /** Ends once everything that was begun is acknowledged. */
  stop(): Promise<void>;
}

const TYPES = [WORK.type, WORK.type, WORK.type, BULK.type, PLAIN];
const CALL_SIZE = 20;
/** How many of them are enqueued one by one. */
const SINGLES = 4;
/** Calls after which every type and tenant has had a job. */
const WARM_UP = 1;
const TENANTS = 5;

export function startProducer(options: ProducerOptions): Producer {
  const { sql, random } = options;
  const acknowledged: Acknowledgement[] = [];
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
      acknowledged.push(...(await untilAcknowledged(makeCall(calls, options))));
      acknowledged.push(...(await untilTogether(makePair(calls, options))));
    }
  }

  /** Two that one claim takes together: the urgent one was written first, though its id is the higher one. */
  async function untilTogether(pair: readonly ShuffledJob[]): Promise<Acknowledgement[]> {
    const repeat = (): Promise<Acknowledgement[]> => untilAcknowledged(pair);
    if (calls <= WARM_UP) return repeat();
    await sql`select public.pause_queue(${PAIRS})`.catch(() => undefined);
    const told = await repeat();
    await sql`select public.resume_queue(${PAIRS})`.catch(() => undefined);
    return told;
  }

  /** An answer that got lost may have been a commit: the keys find the jobs of the first call. */
  async function untilAcknowledged(jobs: readonly ShuffledJob[]): Promise<Acknowledgement[]> {
    const [late, ...others] = jobs;
    if (!late) return [];
    const between = others.slice(0, SINGLES - 1);
    const bulk = others.slice(SINGLES - 1);
    for (;;) {
      try {
        // The first calls bring types and tenants that nobody knows yet.
        if (calls <= WARM_UP) return await enqueueMany(sql, jobs);
        return await enqueueShuffled(sql, { late, between, bulk });
      } catch {
        repeated += 1;
        await delay(100);
      }
    }
  }

  async function meddle(): Promise<void> {
    while (!isStopping) {
      const id = acknowledged[Math.floor(random() * acknowledged.length)]?.id ?? "0";
      const newest = acknowledged.at(-1)?.id ?? "0";
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
      await sql`select public.resume_queue(${PAIRS})`;
    },
  };
}

/** Jobs of one call: the first alone is not urgent, then some that mostly are, then a bulk in which some wait for the one before them. */
function makeCall(call: number, { random, stallMs }: ProducerOptions): ShuffledJob[] {
  return Array.from({ length: CALL_SIZE }, (_, n) => {
    const isFirst = call <= WARM_UP;
    const type = TYPES[isFirst ? n % TYPES.length : Math.floor(random() * TYPES.length)] ?? PLAIN;
    const hasTenant = isFirst || random() < 0.5;
    const tenant = hasTenant
      ? `tenant-${isFirst ? n % TENANTS : Math.floor(random() * TENANTS)}`
      : null;
    const nonce = `${call}/${n}`;
    const isBulk = n >= SINGLES;
    return {
      type,
      payload: makePlan(random, stallMs, { nonce, type, tenant }),
      idempotency_key: nonce,
      priority: n === 0 ? "low" : random() < 0.3 ? "critical" : random() < 0.3 ? "high" : "normal",
      max_retries: random() < 0.05 ? 0 : 8,
      tenant_id: tenant,
      options: {
        backoff: { base_ms: 100, cap_ms: 1000 },
        ...(isBulk && random() < 0.5 && { on_parent_failure: "run" }),
      },
      ...(isBulk && { ref: `r${n}` }),
      ...(n > SINGLES && random() < 0.15 && { depends_on_refs: [`r${n - 1}`] }),
    };
  });
}

function makePair(call: number, { random, stallMs }: ProducerOptions): ShuffledJob[] {
  const types = random() < 0.5 ? [WORK.type, BULK.type] : [BULK.type, WORK.type];
  return types.map((type, n) => ({
    type,
    payload: makePlan(random, stallMs, { nonce: `${call}/pair-${n}`, type, tenant: null }),
    idempotency_key: `${call}/pair-${n}`,
    priority: n === 0 ? "low" : "critical",
    queue: PAIRS,
    max_retries: 8,
    options: { backoff: { base_ms: 100, cap_ms: 1000 } },
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

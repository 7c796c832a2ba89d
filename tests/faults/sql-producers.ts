import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { connect, type TestSql } from "../support/connect.ts";
import type { Acknowledgement } from "../support/identity.ts";
import { enqueueMany, enqueueShuffled, type ShuffledJob } from "../support/shuffled-enqueue.ts";
import { BATCH, BULK, idlePlan, PAIRS, pick, SINGLE, TENANTS } from "./plan.ts";
import { type Draft, noncesOf, Producer, type ProducerTools } from "./producer.ts";
import { STATEMENT_MS, within } from "./within.ts";

/** Knows the SQL contract alone: transactions with savepoints, several open at a time. */
export async function runSqlProducer(tools: ProducerTools): Promise<void> {
  const producer = new Producer(tools);
  const pool = new pg.Pool({
    connectionString: tools.url,
    max: 4,
    connectionTimeoutMillis: 5_000,
    query_timeout: STATEMENT_MS,
  });
  pool.on("error", () => undefined);
  pool.on("connect", (client) => client.on("error", () => undefined));
  const loop = async (): Promise<void> => {
    while (!tools.isOver()) {
      await producer.pause(500);
      await sqlTransaction(producer, pool);
    }
  };
  await Promise.all([loop(), loop()]);
  await Promise.race([pool.end(), delay(2_000)]);
}

/** Enqueues, goes back to a savepoint, enqueues again. */
async function sqlTransaction(producer: Producer, pool: pg.Pool): Promise<void> {
  const { random } = producer.tools;
  const kept = producer.drafts(3);
  const undone = producer.drafts(2);
  producer.undo(undone);
  await producer
    .call("sql", noncesOf([...kept, ...undone]), async () => {
      const client = await pool.connect();
      let fault: Error | undefined;
      try {
        await client.query("begin");
        const told: Acknowledgement[] = [];
        for (const draft of kept.slice(1)) told.push(await bySql(client, draft));
        await client.query("savepoint before");
        for (const draft of undone) await bySql(client, draft);
        await client.query("rollback to before");
        for (const draft of kept.slice(0, 1)) told.push(await bySql(client, draft));
        await delay(random() * 120);
        await client.query("commit");
        return told;
      } catch (error) {
        fault = error as Error;
        throw error;
      } finally {
        client.release(fault);
      }
    })
    .catch(() => undefined);
}

async function bySql(client: pg.PoolClient, { job, plan, options }: Draft) {
  const { rows } = await client.query<{ id: string }>(
    `select public.enqueue_job(
       p_type => $1, p_payload => $2::jsonb, p_priority => $3, p_tenant_id => $4, p_max_retries => $5,
       p_options => '{"backoff":{"base_ms":100,"cap_ms":1000}}')::text as id`,
    [
      job.type,
      JSON.stringify(plan),
      options.priority ?? "normal",
      plan.who.tenant,
      options.maxRetries ?? 3,
    ],
  );
  return { id: rows[0]?.id ?? "", nonce: plan.who.nonce };
}

/** Writes jobs in another order than their ids, and large numbers of idle ones; repeats what was not acknowledged, by its keys. */
export async function runShuffledProducer(tools: ProducerTools, perMinute: number): Promise<void> {
  const producer = new Producer(tools);
  const open = (): TestSql =>
    connect(tools.url, { max: 4, connect_timeout: 5, fetch_types: false });
  let sql = open();
  let calls = 0;
  const repeat = async (
    nonces: readonly string[],
    enqueue: () => Promise<Acknowledgement[]>,
  ): Promise<void> => {
    while (!(await producer.call("keyed", nonces, () => within(STATEMENT_MS, enqueue())))) {
      if (tools.isOver()) return;
      const left = sql;
      sql = open();
      left.end({ timeout: 0 }).catch(() => undefined);
      await delay(200);
    }
  };
  const began = Date.now();
  let bulk = 0;
  while (!tools.isOver()) {
    calls += 1;
    const group = Array.from({ length: 12 }, (_, n) => keyed(producer, n));
    const nonces = group.map(({ payload }) => payload.who.nonce);
    const [late, ...others] = group;
    // The first bring types and tenants that nobody knows yet.
    if (calls <= 3 || !late) await repeat(nonces, () => enqueueMany(sql, group));
    else {
      const between = others.slice(0, 3);
      await repeat(nonces, () =>
        enqueueShuffled(sql, { late, between, bulk: others.slice(between.length) }),
      );
      await pairs(producer, () => sql, repeat);
    }
    const due = Math.floor(((Date.now() - began) / 60_000) * perMinute) - bulk;
    if (due >= BULK_SIZE) {
      const many = Array.from({ length: BULK_SIZE }, () => idle(producer));
      bulk += many.length;
      await repeat(
        many.map(({ payload }) => payload.who.nonce),
        () => enqueueMany(sql, many),
      );
    }
    await producer.pause(600);
  }
  await Promise.race([sql.end({ timeout: 1 }), delay(2_000)]);
}

const BULK_SIZE = 300;

/** Two that one claim takes together: the urgent one was written first, though its id is the higher one. */
async function pairs(
  producer: Producer,
  sql: () => TestSql,
  repeat: (nonces: readonly string[], enqueue: () => Promise<Acknowledgement[]>) => Promise<void>,
): Promise<void> {
  const toggle = (call: Promise<unknown>): Promise<unknown> =>
    within(STATEMENT_MS, call).catch(() => undefined);
  const late = { ...keyed(producer, 0), queue: PAIRS, priority: "low" };
  const urgent = { ...keyed(producer, 1), queue: PAIRS, priority: "critical" };
  await toggle(sql()`select public.pause_queue(${PAIRS})`);
  await repeat([late.payload.who.nonce, urgent.payload.who.nonce], () =>
    enqueueShuffled(sql(), { late, between: [urgent] }),
  );
  await toggle(sql()`select public.resume_queue(${PAIRS})`);
}

function keyed(producer: Producer, n: number): ShuffledJob {
  const { random } = producer.tools;
  const { plan, options } = producer.draft(pick(random, [...SINGLE, BATCH]));
  return {
    type: plan.who.type,
    payload: plan,
    idempotency_key: plan.who.nonce,
    priority: n === 0 ? "low" : (options.priority ?? "normal"),
    tenant_id: plan.who.tenant,
    max_retries: options.maxRetries ?? 3,
    options: { backoff: { base_ms: 100, cap_ms: 1_000 } },
  };
}

function idle(producer: Producer): ShuffledJob {
  const nonce = producer.nonce();
  const tenant = pick(producer.tools.random, TENANTS);
  return {
    type: BULK.type,
    payload: idlePlan({ nonce, type: BULK.type, tenant }),
    idempotency_key: nonce,
    tenant_id: tenant,
  };
}

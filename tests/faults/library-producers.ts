import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import postgres from "postgres";
import { connect } from "../../src/db/postgres-js.ts";
import { createQueue, type Enqueuer, type Queue } from "../../src/index.ts";
import type { Acknowledgement } from "../support/identity.ts";
import { type Draft, noncesOf, Producer, type ProducerTools, tell } from "./producer.ts";
import { NoAnswerError, STATEMENT_MS, within } from "./within.ts";

/** Opens a transaction of the application's own and hands its enqueuer over; rolls back when `work` throws. */
type Transaction = (work: (enqueuer: Enqueuer) => Promise<void>) => Promise<void>;

interface Line {
  readonly queue: Queue;
  readonly transaction: Transaction;
  close(): Promise<unknown>;
}

/** How applications reach the library; each way with transactions of its own. */
const LINES: Readonly<Record<string, (url: string) => Line>> = {
  connect: (url) => ownLine(url, false),
  pooled: (url) => ownLine(url, true),
  pool: poolLine,
  postgres: postgresLine,
};

class RolledBack extends Error {}

/** Enqueues one by one, in bulk, and in transactions that stay open for a while and now and then are rolled back. */
export async function runLibraryProducer(way: string, tools: ProducerTools): Promise<void> {
  const producer = new Producer(tools);
  const makeLine = LINES[way];
  if (!makeLine) throw new Error(`there is no way ${way}`);
  let line = makeLine(tools.url);
  while (!tools.isOver()) {
    await producer.pause(400);
    // Who has hung too long is left, as a process would be restarted.
    await turn(producer, line).catch(() => {
      const left = line;
      line = makeLine(tools.url);
      left.close().catch(() => undefined);
    });
  }
  await Promise.race([line.close(), delay(2_000)]);
}

async function turn(producer: Producer, { queue, transaction }: Line): Promise<void> {
  const { random } = producer.tools;
  const kind = random();
  if (kind < 0.35) {
    // At the same time: they share a commit.
    const drafts = producer.drafts(4);
    await Promise.all(
      drafts.map((draft) =>
        producer.call("enqueue", noncesOf([draft]), async () => [await one(queue, draft)]),
      ),
    );
  } else if (kind < 0.6) {
    const drafts = producer.drafts(12).map((draft) => producer.draft(draft.job));
    const [first] = drafts;
    if (!first) return;
    const alike = drafts.filter(({ job }) => job.type === first.job.type);
    await producer.call("enqueueMany", noncesOf(alike), () => many(queue, alike));
  } else {
    await overlap(producer, transaction);
  }
}

/** Two transactions at the same time, of which the one that began first may end last. */
async function overlap(producer: Producer, transaction: Transaction): Promise<void> {
  const { random } = producer.tools;
  const one = async (): Promise<void> => {
    const drafts = producer.drafts(3);
    const isUnwanted = random() < 0.25;
    const holdMs = random() < 0.1 ? 1_000 : 80 * random();
    if (isUnwanted) producer.undo(drafts);
    await producer.call("transaction", noncesOf(drafts), async () => {
      const told: Acknowledgement[] = [];
      await transaction(async (enqueuer) => {
        for (const draft of drafts) told.push(await oneIn(enqueuer, draft));
        await delay(holdMs);
        if (isUnwanted) throw new RolledBack();
      });
      return told;
    });
  };
  await Promise.all([one(), one()]);
}

async function one(queue: Enqueuer, draft: Draft): Promise<Acknowledgement> {
  return oneIn(queue, draft);
}

async function oneIn(enqueuer: Enqueuer, draft: Draft): Promise<Acknowledgement> {
  const made = await enqueuer.enqueue(draft.job, draft.plan, draft.options);
  return { id: made.id, nonce: draft.plan.who.nonce };
}

async function many(queue: Enqueuer, drafts: readonly Draft[]): Promise<Acknowledgement[]> {
  const [first] = drafts;
  if (!first) return [];
  const made = await queue.enqueueMany(
    first.job,
    drafts.map(({ plan }) => plan),
    (_plan, index) => drafts[index]?.options ?? {},
  );
  return tell(drafts, made);
}

function ownLine(url: string, pooled: boolean): Line {
  const sql = connect(url, { pooled, applicationName: "producer" });
  const queue = createQueue({ sql });
  return {
    queue,
    transaction: (work) => sql.transaction((tx) => work(queue.with(tx))),
    close: () => sql.close(),
  };
}

function poolLine(url: string): Line {
  const pool = new pg.Pool({
    connectionString: url,
    max: 6,
    connectionTimeoutMillis: 5_000,
    query_timeout: STATEMENT_MS,
  });
  pool.on("error", () => undefined);
  pool.on("connect", (client) => client.on("error", () => undefined));
  const queue = createQueue({ sql: pool });
  return {
    queue,
    async transaction(work) {
      const client = await pool.connect();
      let fault: Error | undefined;
      try {
        await client.query("begin");
        await work(queue.with(client));
        await client.query("commit");
      } catch (error) {
        fault = error as Error;
        if (error instanceof RolledBack) await client.query("rollback").catch(() => undefined);
        throw error;
      } finally {
        client.release(fault);
      }
    },
    close: () => pool.end(),
  };
}

function postgresLine(url: string): Line {
  // Without the look for types, of which postgres.js (3.4) rejects a promise that nobody holds when the connection breaks.
  const settings = { max: 6, connect_timeout: 5, fetch_types: false };
  const open = (): postgres.Sql => postgres(url, { ...settings, onnotice: () => undefined });
  const client = open();
  // Its own transactions wait for ever on a connection that fell silent, so they have a client that can be left.
  let own = open();
  const queue = createQueue({ sql: client });
  return {
    queue,
    async transaction(work) {
      const asked = own;
      await within(
        STATEMENT_MS,
        asked.begin((tx) => work(queue.with(tx))),
      ).catch((error: unknown) => {
        if (error instanceof NoAnswerError && own === asked) {
          own = open();
          asked.end({ timeout: 0 }).catch(() => undefined);
        }
        throw error;
      });
    },
    close: () => Promise.all([client.end({ timeout: 0 }), own.end({ timeout: 0 })]),
  };
}

import assert from "node:assert/strict";
import { it } from "node:test";
import pg from "pg";
import { connect } from "../../src/db/postgres-js.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  type HandlerTransaction,
  implement,
  silentLogger,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { startFaultyProxy } from "../support/faulty-proxy.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { gate } from "./rig.ts";

const LEASE_MS = 2_000;
/** Within this all slots work again. */
const SLOTS_MS = LEASE_MS + 15_000;
const HANDLERS = 5;

describeWithDatabase(
  "connections that fall silent under five handlers in commitWith",
  (context) => {
    const kinds = {
      "connect()": (url: string) => {
        const sql = connect(url);
        return { handle: sql, close: () => sql.close() };
      },
      "a node-postgres pool": (url: string) => {
        const pool = new pg.Pool({ connectionString: url });
        pool.on("error", () => undefined);
        return { handle: pool, close: async () => void pool.end() };
      },
    };

    for (const [name, open] of Object.entries(kinds)) {
      it(`free their slots, hold up no producer, and do nothing twice, with ${name}`, async () => {
        const proxy = await startFaultyProxy(context.db.url);
        const worked = open(proxy.url);
        const produced = open(proxy.url);
        const type = name.replaceAll(/\W/g, "");
        const effects = `effects_${type.toLowerCase()}`;
        await context.db.sql.unsafe(`create table ${effects} (job text)`);
        const allBegun = gate();
        const goOn = gate();
        let begun = 0;
        const paying = defineJob(`pay.${type}`, { maxRetries: 5, backoff: { base: "100ms" } });
        const plain = defineJob<unknown, string>(`plain.${type}`);
        const pay = async (tx: HandlerTransaction, id: string): Promise<void> => {
          await tx.query(`insert into ${effects} values ($1)`, [id]);
          begun += 1;
          if (begun === HANDLERS) allBegun.open();
          if (begun <= HANDLERS) await goOn.opened;
        };
        const worker = createWorker({
          sql: worked.handle,
          handlers: [
            implement(paying, ({ id, commitWith }) => commitWith((tx) => pay(tx, id))),
            implement(plain, () => "done"),
          ],
          concurrency: HANDLERS + 1,
          leaseMs: LEASE_MS,
          logger: silentLogger,
        });
        const queue = createQueue({ sql: produced.handle });
        try {
          await worker.start();
          const jobs = await queue.enqueueMany(paying, Array(HANDLERS).fill({}));
          await allBegun.opened;

          const swallowedAt = performance.now();
          assert.ok(proxy.swallow() > HANDLERS);
          goOn.open();
          // Producers: each call ends in time, and those that come later do not wait for those that hang.
          const calls = Array.from({ length: 30 }, async (_, n) => {
            await new Promise((resolve) => setTimeout(resolve, n * 200));
            const sentAt = performance.now();
            const code = await queue.enqueue(plain, {}, { timeoutMs: 4_000 }).then(
              () => "made",
              (error: { code: string }) => error.code,
            );
            return { code, tookMs: performance.now() - sentAt };
          });
          const ended = await Promise.all(calls);
          for (const { code, tookMs } of ended) {
            assert.match(code, /^(made|DATABASE_TIMEOUT|DATABASE_UNREACHABLE)$/);
            assert.ok(tookMs < 5_000, `${tookMs} ms`);
          }
          assert.deepEqual(
            ended.slice(-5).map(({ code }) => code),
            Array(5).fill("made"),
          );
          assert.ok(ended.slice(-5).every(({ tookMs }) => tookMs < 1_000));

          // As many as there are slots, at the same time.
          await eventually(
            async () => {
              const rows = await context.db.sql`
                select 1 from public.job_queue where type = ${paying.type} and status <> 'completed'`;
              return rows.length === 0;
            },
            { timeoutMs: SLOTS_MS },
          );
          await eventually(() => worker.running === 0, { timeoutMs: SLOTS_MS });
          assert.ok(performance.now() - swallowedAt < SLOTS_MS);
          const kept = await context.db.sql.unsafe(`select job from ${effects} order by job`);
          assert.deepEqual(
            kept.map((row) => row["job"]),
            jobs.map(({ id }) => id).toSorted(),
          );
        } finally {
          await worker.stop({ timeoutMs: 0 });
          await Promise.all([worked.close(), produced.close()]);
          await proxy.close();
        }
      });
    }
  },
  { pooler: false, atOnce: "tests" },
);

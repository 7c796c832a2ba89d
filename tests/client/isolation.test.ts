import assert from "node:assert/strict";
import { after, it } from "node:test";
import pg from "pg";
import { connect } from "../../src/db/postgres-js.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  implement,
  silentLogger,
  type WorkerEvent,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";

const LEVELS = ["repeatable read", "serializable"] as const;

describeOnEachServer("a database whose default isolation is stricter", (context) => {
  after(() =>
    context.db.superSql.unsafe(
      `alter database ${context.db.name} reset default_transaction_isolation`,
    ),
  );

  for (const level of LEVELS) {
    it(`${level}: workers start together, and every job is enqueued and runs once`, async () => {
      const { db } = context;
      await db.superSql.unsafe(
        `alter database ${db.name} set default_transaction_isolation = '${level}'`,
      );
      const job = defineJob<number>(`strict.${level.replace(" ", ".")}`);
      const runs = new Map<string, unknown[]>();
      const events: WorkerEvent[] = [];
      const pool = new pg.Pool({ connectionString: db.url, max: 10 });
      const links = Array.from({ length: 6 }, () => connect(db.url));
      const workers = links.slice(0, 3).map((sql) =>
        createWorker({
          sql,
          handlers: [
            implement(job, ({ id, input }) => {
              runs.set(id, [...(runs.get(id) ?? []), input]);
            }),
          ],
          logger: silentLogger,
          onEvent: (event) => events.push(event),
        }),
      );
      const queues = [...links.slice(3), pool].map((sql) => createQueue({ sql }));
      try {
        await Promise.all(workers.map((worker) => worker.start()));
        const made = await Promise.all(
          queues.map(async (queue, at) => {
            const ids: [string, number][] = [];
            for (let n = 0; n < 150; n += 1) {
              const value = at * 1_000 + n;
              const one = await queue.enqueue(job, value, {
                tenantId: `t${n % 7}`,
                ...(n % 3 === 0 && { idempotencyKey: `${n}-${at}` }),
              });
              ids.push([one.id, value]);
            }
            return ids;
          }),
        );
        const wanted = new Map(made.flat().map(([id, value]) => [id, [value]]));
        assert.equal(wanted.size, 600);
        await eventually(() => runs.size === wanted.size, { timeoutMs: 60_000 });
        assert.deepEqual(
          [...runs].toSorted(([a], [b]) => Number(a) - Number(b)),
          [...wanted].toSorted(([a], [b]) => Number(a) - Number(b)),
        );
        const outages = events.filter(({ kind }) => kind === "disconnected");
        assert.deepEqual(outages, []);
      } finally {
        await Promise.all(workers.map((worker) => worker.stop()));
        await Promise.all([...links.map((sql) => sql.close()), pool.end()]);
      }
    });
  }
});

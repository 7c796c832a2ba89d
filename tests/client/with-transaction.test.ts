import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import pg from "pg";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, defineJob, type Queue } from "../../src/index.ts";
import { describeWithDatabase } from "../support/suite.ts";

const job = defineJob("in-transaction");

describeWithDatabase("queue.with(tx)", (context) => {
  let sql: Sql;
  let queue: Queue;
  let pool: pg.Pool;
  before(() => {
    sql = connect(context.db.url);
    queue = createQueue({ sql });
    pool = new pg.Pool({ connectionString: context.db.url });
  });
  after(async () => {
    await sql.close();
    await pool.end();
  });

  /** Enqueues inside of a transaction that is rolled back: the job must never have been. */
  async function refuses(work: () => Promise<{ id: string }>): Promise<void> {
    const { id } = await work();
    await assert.rejects(queue.get(id), { code: "UNKNOWN_JOB" });
  }

  async function accepts(work: () => Promise<{ id: string }>): Promise<void> {
    const { id } = await work();
    assert.equal((await queue.get(id)).type, "in-transaction");
  }

  it("joins a transaction of postgres.js", async () => {
    await accepts(() => context.db.sql.begin((tx) => queue.with(tx).enqueue(job, {})));
    await refuses(async () => {
      let made = { id: "" };
      await context.db.sql
        .begin(async (tx) => {
          made = await queue.with(tx).enqueue(job, {});
          throw new Error("changed my mind");
        })
        .catch(() => undefined);
      return made;
    });
  });

  it("joins a transaction of node-postgres", async () => {
    for (const [end, check] of [
      ["commit", accepts],
      ["rollback", refuses],
    ] as const) {
      await check(async () => {
        const client = await pool.connect();
        await client.query("begin");
        const [made] = await queue.with(client).enqueueMany(job, [{}]);
        await client.query(end);
        client.release();
        return made ?? { id: "" };
      });
    }
  });

  it("joins a transaction of this library", async () => {
    await accepts(() => sql.transaction((tx) => queue.with(tx).enqueue(job, {})));
  });

  it("joins what looks like a transaction of Drizzle, over either driver", async () => {
    await accepts(() =>
      context.db.sql.begin((client) => queue.with({ session: { client } }).enqueue(job, {})),
    );
    const client = await pool.connect();
    await accepts(() => queue.with({ _: { session: { client } } }).enqueue(job, {}));
    client.release();
  });

  it("joins what looks like a transaction of Kysely", async () => {
    const client = await pool.connect();
    const kysely = {
      selectFrom: () => undefined,
      executeQuery: ({ sql: text, parameters }: { sql: string; parameters: unknown[] }) =>
        client.query(text, parameters),
    };
    await accepts(() => queue.with(kysely).enqueue(job, {}));
    client.release();
  });

  it("joins what looks like a transaction of Prisma", async () => {
    const prisma = {
      $queryRawUnsafe: async (text: string, ...params: unknown[]) =>
        (await pool.query(text, params)).rows,
    };
    await accepts(() => queue.with(prisma).enqueue(job, {}));
  });

  it("ends in time, if asked to, in a transaction that knows of no signals", async () => {
    const never = (): Promise<never> => new Promise(() => undefined);
    const silent = {
      Prisma: { $queryRawUnsafe: never },
      Kysely: { selectFrom: never, executeQuery: never },
    };
    for (const tx of Object.values(silent)) {
      await assert.rejects(queue.with(tx).enqueue(job, {}, { timeoutMs: 20 }), {
        code: "DATABASE_TIMEOUT",
      });
      const signal = AbortSignal.abort(new Error("enough"));
      await assert.rejects(queue.with(tx).enqueue(job, {}, { signal }), { message: "enough" });
    }
  });

  it("sends nothing for a caller that has given up already", async () => {
    const sent: string[] = [];
    const note = async (text: string): Promise<never> => {
      sent.push(text);
      throw new Error("sent");
    };
    const ignore = (): void => undefined;
    const transactions = {
      "node-postgres": {
        query: ({ text }: { text: string }) => note(text),
        on: ignore,
        removeListener: ignore,
      },
      "postgres.js": { unsafe: note },
      Prisma: { $queryRawUnsafe: note },
    };
    for (const tx of Object.values(transactions)) {
      const signal = AbortSignal.abort(new Error("enough"));
      await assert.rejects(queue.with(tx).enqueue(job, {}, { signal }), { message: "enough" });
    }
    assert.deepEqual(sent, []);
  });

  it("says what it takes when it is given something else", () => {
    for (const wrong of [undefined, null, {}, "tx", () => undefined]) {
      assert.throws(() => queue.with(wrong), {
        code: "INVALID_OPTION",
        option: "tx",
        message: /Drizzle/,
      });
    }
  });

  it("opens a queue over a driver's own client too", async () => {
    for (const handle of [context.db.sql, pool, sql]) {
      const other = createQueue({ sql: handle });
      const made = await other.enqueue(job, {});
      assert.equal((await other.get(made)).status, "pending");
    }
    assert.throws(() => createQueue({ sql: {} }), { code: "INVALID_OPTION", option: "sql" });
  });
});

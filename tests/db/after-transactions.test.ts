import assert from "node:assert/strict";
import { after, before, beforeEach, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import pg from "pg";
import postgres from "postgres";
import { fromPg } from "../../src/db/pg.ts";
import { connect, fromPostgresJs } from "../../src/db/postgres-js.ts";
import type { Sql, SqlTransaction } from "../../src/db/sql.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { gate } from "../worker/rig.ts";

const INSERT = "insert into stray values (1)";
/** More than a statement takes. */
const TURNS = 300;

describeWithDatabase("what is sent on a transaction that has ended", (context) => {
  interface Opened {
    readonly sql: Sql;
    close(): Promise<unknown>;
  }

  const kinds: Readonly<Record<string, () => Opened>> = {
    "connect()": () => {
      const sql = connect(context.db.url);
      return { sql, close: () => sql.close() };
    },
    "a node-postgres pool": () => {
      const pool = new pg.Pool({ connectionString: context.db.url });
      return { sql: fromPg(pool as never), close: () => pool.end() };
    },
    "a postgres.js client": () => {
      const client = postgres(context.db.url, { onnotice: () => undefined, prepare: false });
      return { sql: fromPostgresJs(client as never), close: () => client.end({ timeout: 1 }) };
    },
  };
  const ways: Readonly<Record<string, (tx: SqlTransaction) => Promise<unknown>>> = {
    "by its query": (tx) => tx.query(INSERT),
    "by its driver": async (tx) => {
      const driver = tx.driver as {
        query?(text: string): Promise<unknown>;
        unsafe?(text: string): Promise<unknown>;
      };
      await (driver.unsafe ? driver.unsafe(INSERT) : driver.query?.(INSERT));
    },
  };

  before(async () => {
    await context.db.sql`create table stray (n integer)`;
  });
  beforeEach(async () => {
    await context.db.sql`truncate stray`;
  });
  after(async () => {
    await context.db.sql`drop table stray`;
  });

  async function rows(): Promise<number> {
    const [row] = await context.db.sql`select count(*)::integer as n from stray`;
    return row?.["n"];
  }

  for (const [kind, open] of Object.entries(kinds)) {
    for (const [way, send] of Object.entries(ways)) {
      for (const end of ["rolled back", "committed"]) {
        it(`is refused, ${way}, after it was ${end}, with ${kind}`, async () => {
          const { sql, close } = open();
          const isOver = gate();
          let late: Promise<unknown> = Promise.resolve();
          const ended = sql.transaction(async (tx) => {
            late = isOver.opened.then(() => send(tx));
            if (end === "rolled back") throw new Error("no");
          });
          await ended.catch(() => undefined);
          isOver.open();
          await assert.rejects(late);
          assert.equal(await rows(), 0);
          await close();
        });
      }
    }

    it(`is not done outside of it while it is rolled back, with ${kind}`, async () => {
      const { sql, close } = open();
      const sent: Promise<unknown>[] = [];
      let strays: Promise<void> = Promise.resolve();
      const ended = sql.transaction(async (tx) => {
        strays = (async () => {
          for (let n = 0; n < TURNS; n += 1) {
            await turn();
            sent.push(tx.query(INSERT).catch(() => undefined));
          }
        })();
        throw new Error("no");
      });
      await assert.rejects(ended, { message: "no" });
      await strays;
      await Promise.all(sent);
      assert.equal(await rows(), 0);
      await close();
    });
  }
});

import assert from "node:assert/strict";
import { it } from "node:test";
import pg from "pg";
import { eventually } from "./eventually.ts";
import { type FaultyProxy, startFaultyProxy } from "./faulty-proxy.ts";
import { describeWithDatabase } from "./suite.ts";

describeWithDatabase("a proxy with faults", (context) => {
  /** A client through a proxy, and how its connection ended, if it did. */
  async function withClient(
    work: (
      proxy: FaultyProxy,
      client: pg.Client,
      broken: () => string | undefined,
    ) => Promise<void>,
  ): Promise<void> {
    const proxy = await startFaultyProxy(context.db.url);
    const client = new pg.Client({ connectionString: proxy.url });
    let broken: string | undefined;
    client.on("error", (error: Error & { code?: string }) => {
      broken ??= error.code ?? "ended";
    });
    client.on("end", () => {
      broken ??= "ended";
    });
    await client.connect();
    try {
      await work(proxy, client, () => broken);
    } finally {
      await proxy.close();
    }
  }
  const ask = (client: pg.Client) => client.query("select 1 as one");

  it("swallows what was open and lets new connections pass", async () => {
    await withClient(async (proxy, client, broken) => {
      assert.equal(proxy.swallow(), 1);
      const silent = ask(client).catch((error: Error) => error.message);
      const other = new pg.Client({ connectionString: proxy.url });
      await other.connect();
      assert.equal((await ask(other)).rowCount, 1);
      await other.end();
      assert.equal(broken(), undefined);
      const sessions = await context.db.superSql`
        select 1 from pg_stat_activity where datname = current_database() and usename = 'postgres'`;
      assert.ok(sessions.length > 0, "the server still has its session");
      await proxy.close();
      assert.match((await silent) as string, /ECONNRESET|terminated/);
    });
  });

  it("swallows new connections while it is told to", async () => {
    await withClient(async (proxy) => {
      proxy.swallowNew(true);
      const late = new pg.Client({ connectionString: proxy.url, connectionTimeoutMillis: 200 });
      await assert.rejects(late.connect(), /timeout/);
    });
  });

  it("stalls and resumes without a loss", async () => {
    await withClient(async (proxy, client) => {
      proxy.stall();
      let isAnswered = false;
      const answer = ask(client).finally(() => {
        isAnswered = true;
      });
      // Others are answered meanwhile, and the server has not been asked.
      for (let n = 0; n < 10; n += 1) {
        const heard = await context.db.superSql`
          select from pg_stat_activity where datname = current_database() and query = 'select 1 as one'`;
        assert.equal(heard.length, 0);
      }
      assert.equal(isAnswered, false);
      proxy.resume();
      assert.equal((await answer).rowCount, 1);
    });
  });

  it("cuts by RST and ends by FIN", async () => {
    await withClient(async (proxy, _, broken) => {
      proxy.reset();
      assert.match(await eventually(broken), /ECONNRESET/);
    });
    await withClient(async (proxy, _, broken) => {
      proxy.end();
      assert.match(await eventually(broken), /ended/);
    });
  });

  it("delays each way", async () => {
    await withClient(async (proxy, client) => {
      proxy.delay(60);
      const began = performance.now();
      await ask(client);
      assert.ok(performance.now() - began >= 115);
      proxy.delay(0);
    });
  });

  it("refuses new connections while it is told to, and keeps the others", async () => {
    await withClient(async (proxy, client) => {
      await proxy.refuse(true);
      const late = new pg.Client({ connectionString: proxy.url });
      await assert.rejects(late.connect(), { code: "ECONNREFUSED" });
      assert.equal((await ask(client)).rowCount, 1);
      await proxy.refuse(false);
      const later = new pg.Client({ connectionString: proxy.url });
      await later.connect();
      await later.end();
    });
  });

  it("loses a reply of what was done all the same", async () => {
    await withClient(async (proxy, client) => {
      await client.query("create table done (n integer)");
      proxy.loseReplies();
      await assert.rejects(client.query("insert into done values (1)"));
      await eventually(async () => (await context.db.sql`select n from done`).length === 1);
    });
  });

  it("answers as a pooler that closes: to requests, to new connections, and after the work was done", async () => {
    const error = { code: "XX000", message: "Database connection closed" };
    await withClient(async (proxy, client) => {
      proxy.failRequests(error);
      await assert.rejects(client.query("create table undone ()"), { code: "XX000" });
      const [undone] = await context.db.sql`select to_regclass('undone')::text as name`;
      assert.equal(undone?.["name"], null);
      proxy.failNew(error);
      await assert.rejects(new pg.Client({ connectionString: proxy.url }).connect(), error);
    });
    await withClient(async (proxy, client) => {
      proxy.failReplies({ ...error, isFromPooler: false });
      await assert.rejects(client.query("create table done_too ()"), { severity: "FATAL" });
      await eventually(async () => {
        const [done] = await context.db.sql`select to_regclass('done_too')::text as name`;
        return done?.["name"];
      });
    });
  });
});

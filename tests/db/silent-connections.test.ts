import assert from "node:assert/strict";
import { afterEach, beforeEach, it } from "node:test";
import { connectWith } from "../../src/db/connect.ts";
import type { Sql } from "../../src/db/sql.ts";
import { eventually } from "../support/eventually.ts";
import { type FaultyProxy, startFaultyProxy } from "../support/faulty-proxy.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate } from "../worker/rig.ts";

const own = { application_name: "silent-test" };
/** A connection is ended after two looks in a row that find it silent; these are enough of them. */
const LOOKS = 4;
const LOCK = 77;

describeOnEachServer(
  "connections on which nothing arrives any more, of connect()",
  (context) => {
    let proxy: FaultyProxy;
    let sql: Sql;
    beforeEach(async () => {
      proxy = await startFaultyProxy(context.db.url);
      sql = connectWith(
        proxy.url,
        { max: 2, applicationName: own.application_name },
        { lookMs: 300 },
      );
    });
    afterEach(async () => {
      await sql.close();
      await proxy.close();
    });

    /** The sessions that the server still has of this client. */
    async function sessions(): Promise<{ state: string; query: string; since: string }[]> {
      const rows = await context.db.superSql`
        select state, query, query_start::text as since from pg_stat_activity
        where datname = current_database() and application_name = ${own.application_name}`;
      return rows as never;
    }

    /** Lets a statement of this client wait on the server until the client has asked after it so often that it would have given up. */
    async function askAfterAnother(): Promise<void> {
      const [locked, enough] = [gate(), gate()];
      const locking = context.db.superSql.begin(async (tx) => {
        await tx`select pg_advisory_xact_lock(${LOCK})`;
        locked.open();
        await enough.opened;
      });
      await locked.opened;
      const waiting = sql.query(`select pg_advisory_xact_lock_shared(${LOCK})::text as answer`);
      const asked = new Set<string>();
      try {
        await eventually(async () => {
          for (const { query, since } of await sessions()) {
            if (query.includes("as process")) asked.add(since);
          }
          return asked.size >= LOOKS;
        });
      } finally {
        enough.open();
        await locking;
      }
      assert.deepEqual([...(await waiting)], [{ answer: "" }]);
    }

    async function sessionsThat(work: string): Promise<readonly unknown[]> {
      return context.db.superSql`
        select from pg_stat_activity
        where datname = current_database() and state = 'active' and pid <> pg_backend_pid()
          and position(${work} in query) > 0`;
    }

    it("are told from statements that take long, ended, and replaced; the server's sessions of them too", async () => {
      await Promise.all([sql.query("select pg_sleep(0.1)"), sql.query("select pg_sleep(0.1)")]);
      proxy.swallow();
      const began = performance.now();

      const lost = sql.query("select 1");
      const also = sql.query("select 2");
      // All connections are in use; those who come later get one more each, soon.
      const later = await sql.query("select 3::text as n");

      assert.equal(later[0]?.["n"], "3");
      assert.ok(performance.now() - began < 2_500);
      await assert.rejects(lost, { code: "DATABASE_UNREACHABLE" });
      await assert.rejects(also, { code: "DATABASE_UNREACHABLE" });
      assert.ok(performance.now() - began < 4_000);
      await eventually(async () => (await sessions()).length <= 1);
    });

    it("do not take a statement with them that the server works on", async () => {
      await askAfterAnother();
    });

    it("free the slot of a transaction, whose locks the server lets go", async () => {
      await context.db.sql`create table if not exists held (n integer)`;
      let isReached = false;
      const hung = sql.transaction(async (tx) => {
        await tx.query("lock table held");
        proxy.swallow();
        isReached = true;
        await tx.query("select 1");
      });

      await assert.rejects(hung, { code: "DATABASE_UNREACHABLE" });
      assert.equal(isReached, true);
      // Nobody holds the lock any more.
      await eventually(() => context.db.sql`select n from held`, { timeoutMs: 5_000 });
      assert.equal(await sql.transaction(async () => "next"), "next");
    });

    it("free the slot of a transaction in which only the driver's own handle was used", async () => {
      const hung = sql.transaction(async (tx) => {
        proxy.swallow();
        await (tx.driver as (text: TemplateStringsArray) => Promise<unknown>)`select 1`;
      });
      await assert.rejects(hung, { code: "DATABASE_UNREACHABLE" });
    });

    it("free the slot of a transaction of which one statement was answered, and the one behind it was not", async () => {
      let second: Promise<unknown> | undefined;
      const hung = sql.transaction(async (tx) => {
        const first = tx.query("select 1");
        second = tx.query("select pg_sleep(0.3)");
        await first;
        proxy.swallow();
        await second;
      });
      await assert.rejects(hung, { code: "DATABASE_UNREACHABLE" });
      await assert.rejects(async () => second, { code: "DATABASE_UNREACHABLE" });
    });

    it("free the slot of a transaction behind a pooler that fell silent before its first statement", async () => {
      const pooled = connectWith(proxy.url, { pooled: true }, { lookMs: 300 });
      try {
        const hung = pooled.transaction(async (tx) => {
          proxy.swallow();
          await tx.query("select 1");
        });
        await assert.rejects(hung, { code: "DATABASE_UNREACHABLE" });
        assert.equal(await pooled.transaction(async () => "next"), "next");
      } finally {
        await pooled.close();
      }
    });

    it("free the slot of a transaction behind a pooler that fell silent during its first statement", async () => {
      const pooled = connectWith(proxy.url, { pooled: true }, { lookMs: 300 });
      try {
        const hung = pooled.transaction(async (tx) => {
          const first = tx.query("select pg_sleep(1)");
          await eventually(async () => (await sessionsThat("sleep(1)")).length > 0);
          proxy.swallow();
          await first;
        });
        await assert.rejects(hung, { code: "DATABASE_UNREACHABLE" });
      } finally {
        await pooled.close();
      }
    });

    it("do not end a transaction behind a pooler whose first statement takes long", async () => {
      const pooled = connectWith(proxy.url, { pooled: true }, { lookMs: 100 });
      try {
        const slept = await pooled.transaction((tx) =>
          tx.query("select 'well' as said from pg_sleep(1)"),
        );
        assert.equal(slept[0]?.["said"], "well");
      } finally {
        await pooled.close();
      }
    });

    it("are ended by close() while they are being made", async () => {
      await Promise.all([sql.query("select pg_sleep(0.1)"), sql.query("select pg_sleep(0.1)")]);
      const made = proxy.accepted;
      proxy.swallow();
      proxy.swallowNew(true);
      const controller = new AbortController();
      const waits = [1, 2, 3].map(() => sql.query("select 1", [], { signal: controller.signal }));
      const waiting = Promise.allSettled(waits);
      // One more for a caller, and one that asks after the silent ones.
      await eventually(() => proxy.accepted >= made + 2);
      controller.abort();
      await waiting;
      await sql.close();
      await eventually(() => proxy.open === 0, { timeoutMs: 1_000 });
    });

    it("do not end a transaction that computes between its statements", async () => {
      const answer = await sql.transaction(async (tx) => {
        await tx.query("select 1");
        await askAfterAnother();
        return (await tx.query("select 'still there' as said"))[0]?.["said"];
      });
      assert.equal(answer, "still there");
    });

    it("are given up when a transaction's signal aborts: at once here, soon on the server", async () => {
      const controller = new AbortController();
      const hung = sql.transaction((tx) => tx.query("select pg_sleep(60)"), {
        signal: controller.signal,
      });
      await eventually(async () => (await sessions()).some(({ query }) => /sleep\(60/.test(query)));
      controller.abort(new Error("enough"));

      await assert.rejects(hung, /enough/);
      await eventually(async () =>
        (await sessions()).every(({ query, state }) => state !== "active" || !/60/.test(query)),
      );
    });

    it("leave a statement that was given up to the server for a moment only", async () => {
      const controller = new AbortController();
      const hung = sql.query("select pg_sleep(60)", [], { signal: controller.signal });
      await eventually(async () => (await sessions()).some(({ query }) => /sleep\(60/.test(query)));
      controller.abort(new Error("enough"));

      await assert.rejects(hung, /enough/);
      await eventually(async () =>
        (await sessions()).every(({ query, state }) => state !== "active" || !/60/.test(query)),
      );
    });
  },
  { pooler: false },
);

describeOnEachServer(
  "after one connection of connect() was given up",
  (context) => {
    it("the others that fell silent with it cost nobody a call", async () => {
      const proxy = await startFaultyProxy(context.db.url);
      const sql = connectWith(proxy.url, { max: 3, maxTransactions: 2 }, { lookMs: 60_000 });
      const lives = (): Promise<unknown> => sql.query("select pg_sleep(0.1)");
      const transacts = (): Promise<unknown> =>
        sql.transaction((tx) => tx.query("select pg_sleep(0.1)"));
      try {
        await Promise.all([lives(), lives(), lives(), transacts(), transacts()]);
        proxy.swallow();
        const given = sql.query("select 1", [], { signal: AbortSignal.timeout(200) });
        await assert.rejects(given, { name: "TimeoutError" });
        await eventually(() => proxy.open === 4);
        const began = performance.now();
        await Promise.all([lives(), lives(), transacts(), transacts()]);
        assert.ok(performance.now() - began < 5_000);
      } finally {
        await sql.close();
        await proxy.close();
      }
    });

    it("those that are there go on", async () => {
      const proxy = await startFaultyProxy(context.db.url);
      const sql = connectWith(proxy.url, { max: 3 }, {});
      const pid = async (): Promise<unknown> =>
        (await sql.query("select pg_backend_pid()::text as pid from pg_sleep(0.1)"))[0]?.["pid"];
      try {
        const before = await Promise.all([pid(), pid(), pid()]);
        proxy.swallow((index) => index === 2);
        const calls = [1, 2, 3].map(() =>
          sql.query("select 1", [], { signal: AbortSignal.timeout(300) }),
        );
        const ends = await Promise.allSettled(calls);
        assert.equal(ends.filter(({ status }) => status === "fulfilled").length, 2);
        await eventually(() => proxy.open <= 3 && proxy.accepted >= 4);
        const after = await Promise.all([pid(), pid()]);
        assert.deepEqual(
          after.filter((one) => !before.includes(one)),
          [],
        );
      } finally {
        await sql.close();
        await proxy.close();
      }
    });
  },
  { pooler: false },
);

describeOnEachServer("transactions of connect()", (context) => {
  it("reject soon after their connection closed, even when nothing more is asked of it, and work on", async () => {
    const proxy = await startFaultyProxy(context.db.url);
    const sql = connectWith(proxy.url, { maxTransactions: 1 }, {});
    try {
      await sql.transaction((tx) => tx.query("select 1"));
      const cut = sql.transaction(async (tx) => {
        await tx.query("select 1");
        proxy.end();
        await eventually(() => proxy.open === 0);
        return "not committed";
      });

      await assert.rejects(cut, { code: "DATABASE_UNREACHABLE" });
      assert.equal(await sql.transaction(async () => "well"), "well");
    } finally {
      await sql.close();
      await proxy.close();
    }
  });

  it("say that nobody knows when the answer to COMMIT is lost", async () => {
    const proxy = await startFaultyProxy(context.db.url);
    const sql = connectWith(proxy.url, {}, {});
    try {
      await context.db.sql`create table if not exists done (n integer)`;
      const lost = sql.transaction(async (tx) => {
        await tx.query("insert into done values (1)");
        proxy.loseReplies();
      });

      await assert.rejects(lost, { code: "DATABASE_TIMEOUT", message: /not known/ });
      await eventually(async () => (await context.db.sql`select n from done`).length === 1);
    } finally {
      await sql.close();
      await proxy.close();
    }
  });
});

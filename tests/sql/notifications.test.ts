/** That a notification can't be sent is no reason for anything to fail: workers look by themselves. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { MAJORS, missingMajor } from "../support/majors.ts";
import { type OwnServer, startTestServer } from "../support/server.ts";
import { only, rigOf } from "./rig.ts";

/** Since 17 the size of the notification queue is a setting; before, it takes 8 GB to fill it. */
const FIRST_WITH_SIZE = 17;

for (const major of MAJORS) {
  describe(`notifications (Postgres ${major})`, { skip: missingMajor(major) ?? false }, () => {
    let server: OwnServer;
    let db: TestDatabase;
    before(async () => {
      server = await startTestServer(major, {
        max_prepared_transactions: 5,
        ...(major >= FIRST_WITH_SIZE && { max_notify_queue_pages: 64 }),
      });
      db = await createTestDatabase(server);
    });
    after(async () => {
      await db.close();
      await server.stop();
    });

    /** A worker that sleeps on a queue, and would have jobs brought to it. */
    async function sleeper(type: string): Promise<number> {
      const [row] = await db.sql<{ worker: number }[]>`
        select (queue.register_worker(${type}, null, array[${type}], array[${type}]) ->> 'worker')::int as worker`;
      const { worker } = only(row);
      await db.sql`select queue.intern_type_queue(queue.intern_type(${type}), queue.intern_queue(${type}))`;
      await db.sql`
        select queue.arm_bells(${worker}, array[queue.intern_queue(${type})], array[queue.intern_type(${type})],
          'secret_channel', 2000)`;
      return worker;
    }

    /** Fails the statement's transaction when anything in it notified. */
    async function prepare(session: TestSql, statement: string): Promise<void> {
      await session`begin`;
      try {
        await session.unsafe(statement);
        await session.unsafe("prepare transaction 'one'");
      } catch (error) {
        await session`rollback`;
        throw error;
      }
      await session.unsafe("commit prepared 'one'");
    }

    it("are left out where millrace.notify is off, so that a transaction can be prepared", async () => {
      const { enqueue, start } = rigOf(db);
      const running = await start("off.running");
      const parent = await start("off.parent");
      await enqueue("off.child", { dependsOn: [parent.id] });
      for (const type of ["off.one", "off.child", "off.dead", "off.new"]) await sleeper(type);
      const dead = await rigOf(db).bury("off.buried");
      const session = db.connect({ max: 1 });
      await session`set millrace.notify = 'off'`;

      for (const statement of [
        "select public.enqueue_job('off.one')",
        `select public.enqueue_jobs('[{"type": "off.one"}, {"type": "off.new", "queue": "off.newer"}]')`,
        "select queue.enqueue_alike('off.one', '[{}, {}]')",
        `select public.cancel_job(${running.id})`,
        `select public.complete_job(${parent.id})`,
        `select public.retry_job(${dead})`,
      ]) {
        await prepare(session, statement);
      }

      const pending =
        await db.sql`select from public.job_queue where type like 'off.%' and status = 'pending'`;
      assert.equal(pending.length, 7);
      const bells = await db.sql`select from queue.bells`;
      assert.equal(bells.length, 4);
      await session`reset millrace.notify`;
      await assert.rejects(prepare(session, "select public.enqueue_job('off.one')"), {
        code: "0A000",
      });
      await session.end();
    });

    it("are left out where a superuser turned them off for a database or a role", async () => {
      for (const whom of [`database ${db.name}`, "role postgres"]) {
        const type = `off.${whom.replaceAll(" ", ".")}`;
        await sleeper(type);
        await db.superSql.unsafe(`alter ${whom} set millrace.notify = 'off'`);
        const session = db.connect({ max: 1 });

        await prepare(session, `select public.enqueue_job('${type}')`);

        await session.end();
        await db.superSql.unsafe(`alter ${whom} reset millrace.notify`);
      }
    });

    if (major < FIRST_WITH_SIZE) return;
    it("are left out where the queue of them is more than half full, and that is told", async () => {
      const { sql } = db;
      await sleeper("full");
      // Somebody else listens, and sits in a transaction: nothing is taken out of the queue.
      const deaf = db.connect({ max: 1 });
      await deaf`listen anything`;
      await deaf`begin`;
      await deaf`select 1`;
      const fill = async (): Promise<void> => {
        await sql`do $$ begin for n in 1..10 loop perform pg_notify('anything', n || repeat('x', 7000)); end loop; end $$`;
      };
      await eventually(async () => {
        await fill();
        const [row] = await sql<{ usage: number }[]>`select pg_notification_queue_usage() as usage`;
        return (row?.usage ?? 0) > 0.5;
      });
      const problems = async () => {
        const [row] = await sql<
          { health: { problems: { code: string }[] } }[]
        >`select public.queue_health() as health`;
        return row?.health.problems.map(({ code }) => code) ?? [];
      };

      await eventually(() =>
        fill().then(
          () => false,
          (error) => /too many notifications/.test(String(error)),
        ),
      );
      for (let n = 0; n < 3; n += 1) await rigOf(db).enqueue("full");

      assert.ok((await problems()).includes("notify_queue_full"));
      const pending =
        await sql`select from queue.ready as token join queue.types as type on type.id = token.type_id where type.name = 'full'`;
      assert.equal(pending.length, 3);
      await deaf`rollback`;
      await deaf.end();
      await eventually(async () => !(await problems()).includes("notify_queue_full"));
    });
  });
}

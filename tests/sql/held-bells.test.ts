/** Bells that a transaction took and holds because it stays open: they must not keep anybody else from waking the worker. */
import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

describeOnEachServer(
  "a bell that an open transaction holds",
  (context) => {
    beforeEach(() => rigOf(context.db).clear());

    async function arm(worker: number, type: string, channel?: string): Promise<void> {
      await context.db.sql`
        select queue.arm_bells(${worker}, array[queue.intern_queue(${type})], array[queue.intern_type(${type})],
          ${channel ?? null}, ${channel === undefined ? null : 2_000})`;
    }

    async function sleeper(type: string, channel?: string): Promise<number> {
      const [row] = await context.db.sql<{ worker: number }[]>`
        select (queue.register_worker(${type}, null, array[${type}], array[${type}]) ->> 'worker')::int as worker`;
      await context.db
        .sql`select queue.intern_type_queue(queue.intern_type(${type}), queue.intern_queue(${type}))`;
      await arm(only(row).worker, type, channel);
      return only(row).worker;
    }

    /** What is heard on a channel while something is done. */
    async function heard(act: () => Promise<unknown>, channel = "millrace"): Promise<string[]> {
      const words: string[] = [];
      const listening = await context.db.sql.listen(channel, (word) => words.push(word));
      await act();
      await context.db.sql.notify(channel, "end");
      await eventually(() => words.includes("end"));
      await listening.unlisten();
      return words.filter((word) => word !== "end");
    }

    /** Enqueues in a transaction that stays open until `work` is done, and ends it. */
    async function beside(
      type: string,
      end: "commit" | "rollback",
      work: (ann: TestSql) => Promise<void>,
    ): Promise<void> {
      const ann = context.db.connect({ max: 1 });
      await ann`begin`;
      await ann`select public.enqueue_job(${type})`;
      await work(ann);
      await ann.unsafe(end);
      await ann.end();
    }

    it("wakes the worker for others, as one that is not to be taken", async () => {
      const { enqueue } = rigOf(context.db);
      const worker = await sleeper("held.once");

      await beside("held.once", "commit", async () => {
        assert.deepEqual(await heard(() => enqueue("held.once")), [`h:${worker}`]);
      });
    });

    it("no longer counts once the worker has heard; the next bell is taken as any other", async () => {
      const { enqueue, sql } = rigOf(context.db);
      const worker = await sleeper("held.passed");
      const often = async () => {
        for (let n = 0; n < 5; n += 1) await enqueue("held.passed");
      };

      await beside("held.passed", "commit", async () => {
        await sql`select queue.pass_held_bells(${worker})`;
        assert.deepEqual(await heard(often), []);
        await arm(worker, "held.passed");
        assert.deepEqual(await heard(often), [`w:${worker}`]);
        await arm(worker, "held.passed");
        await arm(worker, "held.passed");
        assert.deepEqual(await heard(often), [`w:${worker}`]);
      });
      const bells = await sql`select from queue.bells`;
      assert.equal(bells.length, 0);
      await arm(worker, "held.passed");
      assert.deepEqual(await heard(often), [`w:${worker}`]);
      assert.equal((await sql`select from queue.passed_bells`).length, 0);
    });

    it("is arming enough, without a word before", async () => {
      const { enqueue } = rigOf(context.db);
      const worker = await sleeper("held.armed");

      await beside("held.armed", "commit", async () => {
        await arm(worker, "held.armed");
        assert.deepEqual(await heard(() => enqueue("held.armed")), [`w:${worker}`]);
      });
    });

    it("counts again when it is rolled back, once at most", async () => {
      const { enqueue } = rigOf(context.db);
      const worker = await sleeper("held.undone");
      const often = async () => {
        for (let n = 0; n < 5; n += 1) await enqueue("held.undone");
      };

      await beside("held.undone", "rollback", async () => {
        await arm(worker, "held.undone");
      });
      const words = await heard(often);

      assert.ok(words.length >= 1 && words.length <= 2, words.join());
      assert.ok(words.every((word) => word === `w:${worker}`));
    });

    it("is one of several, each held by another transaction", async () => {
      const { enqueue } = rigOf(context.db);
      const worker = await sleeper("held.many");

      await beside("held.many", "commit", async () => {
        await arm(worker, "held.many");
        await beside("held.many", "rollback", async () => {
          assert.deepEqual(await heard(() => enqueue("held.many")), [`h:${worker}`]);
          await arm(worker, "held.many");
          assert.deepEqual(await heard(() => enqueue("held.many")), [`w:${worker}`]);
        });
      });
    });

    it("does not keep others from bringing jobs to the worker, by its next bell", async () => {
      const { enqueue } = rigOf(context.db);
      const worker = await sleeper("held.offer", "held_offers");

      await beside("held.offer", "rollback", async () => {
        await arm(worker, "held.offer", "held_offers");
        const offers = await heard(
          () => enqueue("held.offer", { payload: "brought" }),
          "held_offers",
        );
        assert.deepEqual(
          offers.map((offer) => JSON.parse(offer).job[5]),
          ["brought"],
        );
      });
    });

    it("wakes a worker of very many queues, which has one for all, as any other", async () => {
      const { enqueue, sql } = rigOf(context.db);
      const [row] = await sql<{ worker: number; types: number[]; queues: number[] }[]>`
        select (queue.register_worker('held.wide', null, null, array['held.wide']) ->> 'worker')::int as worker,
          array[queue.intern_type('held.wide')] as types,
          array(select queue.intern_queue('held.wide.' || n) from generate_series(1, 300) as n) as queues`;
      const { worker, types, queues } = only(row);
      await sql`select queue.intern_type_queue(${types[0] ?? 0}, id) from unnest(${queues}::integer[]) as id`;
      const arm = () => sql`select queue.arm_bells(${worker}, null, ${types})`;
      const come = (n: number) => enqueue("held.wide", { queue: `held.wide.${n}` });
      await arm();
      const ann = context.db.connect({ max: 1 });
      await ann`begin`;
      await ann`select public.enqueue_job('held.wide', p_queue => 'held.wide.1')`;

      assert.deepEqual(await heard(() => come(2)), [`h:${worker}`]);
      await arm();
      assert.deepEqual(await heard(() => come(3)), [`w:${worker}`]);
      assert.deepEqual(await heard(() => come(4)), []);
      assert.deepEqual(await heard(() => ann`commit`), [`w:${worker}`]);
      await ann.end();
      await arm();
      assert.deepEqual(await heard(() => come(5)), [`w:${worker}`]);
    });

    it("of a worker that is gone wakes nobody", async () => {
      const { enqueue } = rigOf(context.db);
      await sleeper("held.gone");

      await beside("held.gone", "rollback", async () => {
        await context.db.advance(120_000);
        assert.deepEqual(await heard(() => enqueue("held.gone")), []);
      });
    });
  },
  // A pooler in transaction mode can't LISTEN.
  { pooler: false },
);

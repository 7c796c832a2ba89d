import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, type Rig, rigOf } from "./rig.ts";

describeOnEachServer(
  "bells",
  (context) => {
    beforeEach(() => rigOf(context.db).clear());

    /** A worker that sleeps on these types. */
    async function sleep(name: string, types: string[]): Promise<number> {
      const { sql } = context.db;
      const [row] = await sql<{ worker: number }[]>`
        with me as materialized (select queue.register_worker(${name}, null, ${types}, ${types}) as answer)
        select (answer ->> 'worker')::int as worker from me`;
      const worker = only(row).worker;
      await sql`
        select queue.arm_bells(${worker},
          array(select id from queue.queues where name = any (${types})),
          array(select id from queue.types where name = any (${types})))`;
      return worker;
    }

    /** What is heard while something is done; a last word of our own shows that nothing else is on its way. */
    async function heard(act: (rig: Rig) => Promise<unknown>): Promise<string[]> {
      const { sql } = context.db;
      const words: string[] = [];
      const listening = await sql.listen("millrace", (word) => words.push(word));
      await act(rigOf(context.db));
      await sql`select pg_notify('millrace', 'end')`;
      await eventually(() => words.includes("end"));
      await listening.unlisten();
      return words.filter((word) => word !== "end");
    }

    async function enqueueChild(parent: string, job: object): Promise<string> {
      const { sql } = context.db;
      const [row] = await sql<{ id: string }[]>`
        select id::text from public.enqueue_jobs(${sql.json([{ ...job, depends_on: [parent] }] as never)})`;
      return only(row).id;
    }

    it("ring for a job that comes while somebody sleeps", async () => {
      const worker = await sleep("sleeper", ["ring"]);

      assert.deepEqual(await heard(({ enqueue }) => enqueue("ring")), [`w:${worker}`]);
    });

    it("do not ring when nobody sleeps", async () => {
      assert.deepEqual(await heard(({ enqueue }) => enqueue("nobody")), []);
    });

    it("stay unarmed when the call that arms them comes after the sign-out", async () => {
      const { sql, superSql } = context.db;
      const worker = await sleep("gone", ["gone"]);
      await sql`select queue.unregister_worker(${worker})`;

      await sql`
        select queue.arm_bells(${worker}, array(select id from queue.queues), null, 'nowhere', 2000)`;

      assert.equal((await superSql`select from queue.bells`).length, 0);
    });

    it("of a worker of very many queues are one, which rings for any that holds a type it runs", async () => {
      const { sql } = context.db;
      const [row] = await sql<{ worker: number; type: number }[]>`
        with line as (insert into queue.queues (name) select 'wide ' || n from generate_series(1, 400) as n returning id),
          pair as (
            insert into queue.type_queues select type.id, line.id from line, queue.intern_type('wide') as type (id) returning type_id
          )
        select (queue.register_worker('wide', null, null, '{wide}') ->> 'worker')::int as worker, min(type_id) as type from pair`;
      const { worker, type } = only(row);
      const arm = () => sql`select queue.arm_bells(${worker}, null, ${[type]}, 'channel', 2000)`;
      await arm();
      await arm();
      const bells =
        await sql`select queue_id, channel from queue.bells where worker_id = ${worker}`;

      const others = await heard(({ enqueue }) => enqueue("narrow", { queue: "narrow" }));
      const first = await heard(({ enqueue }) => enqueue("wide", { queue: "wide 7" }));
      const second = await heard(({ enqueue }) => enqueue("wide", { queue: "wide 8" }));
      await arm();
      const many = await heard(
        () => sql`select from queue.enqueue_alike('wide', '[1, 2, 3]', p_queue => 'wide 9')`,
      );

      assert.deepEqual(
        [...bells].map((bell) => ({ ...bell })),
        [{ queue_id: 0, channel: null }],
      );
      assert.deepEqual([others, first, second, many], [[], [`w:${worker}`], [], [`w:${worker}`]]);
    });

    it("of a worker are one for each queue where several of its types are in the same ones", async () => {
      const { sql } = context.db;
      const [row] = await sql<{ worker: number; types: number[] }[]>`
        with line as (insert into queue.queues (name) select 'both ' || n from generate_series(1, 200) as n returning id),
          type as (select queue.intern_type(name) as id from unnest(array['both.a', 'both.b']) as name),
          pair as (insert into queue.type_queues select type.id, line.id from line, type returning type_id)
        select (queue.register_worker('both', null, null, '{both.a,both.b}') ->> 'worker')::int as worker,
          array_agg(distinct type_id) as types from pair`;
      const { worker, types } = only(row);

      await sql`select queue.arm_bells(${worker}, null, ${types}, 'channel', 2000)`;

      const bells = await sql`select channel from queue.bells where worker_id = ${worker}`;
      assert.deepEqual(
        [...bells].map(({ channel }) => channel),
        Array(200).fill("channel"),
      );
    });

    it("ring once: the second job finds the worker awake", async () => {
      const worker = await sleep("once", ["once"]);

      const words = await heard(async ({ enqueue }) => {
        await enqueue("once");
        await enqueue("once");
      });

      assert.deepEqual(words, [`w:${worker}`]);
      await sleep("once", ["once"]);
      assert.deepEqual(await heard(({ enqueue }) => enqueue("once")), [`w:${worker}`]);
    });

    it("wake one worker for each job, not all for one", async () => {
      const workers = [await sleep("one", ["crowd"]), await sleep("two", ["crowd"])];

      const first = await heard(({ enqueue }) => enqueue("crowd"));
      const second = await heard(({ enqueue }) => enqueue("crowd"));

      assert.equal(first.length, 1);
      assert.deepEqual([...first, ...second].sort(), workers.map((worker) => `w:${worker}`).sort());
    });

    it("wake as many workers as jobs came in one call", async () => {
      const workers = [
        await sleep("a", ["bulk"]),
        await sleep("b", ["bulk"]),
        await sleep("c", ["bulk"]),
      ];

      const words = await heard(
        ({ sql }) => sql`select public.enqueue_jobs('[{"type": "bulk"}, {"type": "bulk"}]')`,
      );

      assert.equal(words.length, 2);
      assert.ok(words.every((word) => workers.some((worker) => word === `w:${worker}`)));
    });

    it("in a queue of several types wake a worker that runs the job's", async () => {
      const { sql } = context.db;
      const { complete, start } = rigOf(context.db);
      const ids = await sql<{ id: number }[]>`
        select queue.intern_type(given.name) as id from unnest('{shared.a,shared.b}'::text[]) as given (name)`;
      const [row] = await sql<{ queue: number }[]>`select queue.intern_queue('shared') as queue`;
      const workers: number[] = [];
      const arm = async (): Promise<void> => {
        for (const [n, { id }] of ids.entries()) {
          await sql`select queue.intern_type_queue(${id}, ${only(row).queue})`;
          const [me] = await sql<{ worker: number }[]>`
            select (queue.register_worker(${`shared ${n}`}, null, '{shared}', null) ->> 'worker')::int as worker`;
          workers[n] = only(me).worker;
          await sql`select queue.arm_bells(${only(me).worker}, ${[only(row).queue]}, ${[id]})`;
        }
      };
      const job = { type: "shared.b", queue: "shared" };
      const parent = await start("parent");
      const child = await enqueueChild(parent.id, job);
      const dead = await rigOf(context.db).bury("shared.b", { queue: "shared" });

      const ways: Record<string, () => PromiseLike<unknown>> = {
        one: () => sql`select public.enqueue_job('shared.b', p_queue => 'shared')`,
        many: () => sql`select public.enqueue_jobs(${sql.json([job])})`,
        alike: () => sql`select queue.enqueue_alike('shared.b', '[1]', p_queue => 'shared')`,
        freed: () => complete(parent),
        retried: () => sql`select public.retry_job(${dead})`,
      };
      for (const [way, act] of Object.entries(ways)) {
        await arm();
        assert.deepEqual(await heard(async () => act()), [`w:${workers[1]}`], way);
      }
      assert.equal(await rigOf(context.db).status(child), "pending");
    });

    it("do not ring for a queue that the worker does not serve", async () => {
      await sleep("elsewhere", ["elsewhere"]);

      assert.deepEqual(await heard(({ enqueue }) => enqueue("here")), []);
    });

    it("do not ring for a future job, but when it is retried at once", async () => {
      const { inMs } = rigOf(context.db);
      const scheduledAt = await inMs(60_000);
      const worker = await sleep("future", ["future"]);

      const early = await heard(({ enqueue }) => enqueue("future", { scheduledAt }));
      const [job] = await context.db.sql`select id from public.job_queue where type = 'future'`;
      const late = await heard(({ sql }) => sql`select public.retry_job(${only(job)["id"]})`);

      assert.deepEqual([early, late], [[], [`w:${worker}`]]);
    });

    it("a rolled back enqueue does not ring, and the worker can still be woken", async () => {
      const worker = await sleep("undone", ["undone"]);

      const silent = await heard(({ sql }) =>
        assert.rejects(
          sql.begin(async (tx) => {
            await tx`select public.enqueue_job('undone')`;
            throw new Error("no");
          }),
        ),
      );

      assert.deepEqual(silent, []);
      assert.deepEqual(await heard(({ enqueue }) => enqueue("undone")), [`w:${worker}`]);
    });

    it("ring for what comes back: a release, a rescue, a redrive, a freed child", async () => {
      const { bury, complete, enqueue, start } = rigOf(context.db);
      const released = await start("back");
      const lost = await start("back", {}, { seconds: 10 });
      const dead = await bury("back");
      const parent = await start("back.parent", {}, { seconds: 3600 });
      await enqueue("back", { dependsOn: [parent.id] });
      const worker = await sleep("back", ["back"]);
      const again = () => sleep("back", ["back"]);

      const words = [
        await heard(({ settle }) => settle(released, { outcome: "released" })),
        await again().then(() => context.db.advance(11_000)),
        await heard(({ sql }) => sql`select public.cleanup_stuck_jobs()`),
        await again(),
        await heard(({ sql }) => sql`select from public.redrive_jobs(array[${dead}]::bigint[])`),
        await again(),
        await heard(() => complete(parent)),
      ].filter(Array.isArray);

      assert.equal(lost.type, "back");
      assert.deepEqual(
        words,
        words.map(() => [`w:${worker}`]),
      );
    });

    it("ring when a queue with jobs is resumed", async () => {
      const { enqueue, sql } = rigOf(context.db);
      await enqueue("resumed");
      const worker = await sleep("resumed", ["resumed"]);
      await sql`select public.pause_queue('resumed')`;

      const words = await heard(() => sql`select public.resume_queue('resumed')`);

      assert.deepEqual(words, [`w:${worker}`]);
    });

    it("ring in a snapshot that still sees one that somebody took, and don't fail it", async () => {
      // So that the names are known before the snapshot.
      await rigOf(context.db).enqueue("taken");
      const worker = await sleep("taken", ["taken"]);
      const late = context.db.connect({ max: 1 });

      const words = await heard(({ enqueue }) =>
        late.begin("isolation level repeatable read", async (tx) => {
          await tx`select from queue.bells`;
          await enqueue("taken");
          await tx`select public.enqueue_job('taken')`;
        }),
      );

      assert.deepEqual(words, [`w:${worker}`, `w:${worker}`]);
    });

    it("are armed once, however often one asks", async () => {
      const { sql } = context.db;
      const worker = await sleep("arm", ["arm"]);
      await sleep("arm", ["arm"]);

      const [bells] =
        await sql`select count(*)::int as n from queue.bells where worker_id = ${worker}`;

      assert.equal(bells?.["n"], 1);
    });

    it("are armed on the queues that hold the types where no queue is named", async () => {
      const { enqueue, sql } = rigOf(context.db);
      await enqueue("typed", { queue: "shared" });
      const [row] = await sql<{ worker: number; types: number[] }[]>`
        select (queue.register_worker('typed', null, null, array['typed']) ->> 'worker')::int as worker,
          array(select id from queue.types where name = 'typed') as types`;
      await sql`select queue.arm_bells(${only(row).worker}, null, ${only(row).types})`;

      const words = await heard((rig) => rig.enqueue("typed", { queue: "shared" }));

      assert.deepEqual(words, [`w:${only(row).worker}`]);
    });
  },
  // A pooler in transaction mode can't LISTEN.
  { pooler: false },
);

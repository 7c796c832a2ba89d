import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { type Offer, readOffer } from "../../src/db/claimed-jobs.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { type NewJob, only, type Rig, rigOf } from "./rig.ts";

describeOnEachServer(
  "offers",
  (context) => {
    let rig: Rig;
    beforeEach(async () => {
      rig = rigOf(context.db);
      await rig.clear();
    });

    interface Sleeper {
      readonly worker: number;
      readonly channel: string;
    }

    /** A worker that sleeps on these types and takes jobs without asking. */
    async function sleep(
      name: string,
      types: readonly string[],
      queues: readonly string[] = types,
      offerMs = 60_000,
    ): Promise<Sleeper> {
      const { sql } = rig;
      const [row] = await sql<{ worker: number }[]>`
        with me as materialized (select queue.register_worker(${name}, null, ${[...queues]}, ${[...types]}) as answer)
        select (answer ->> 'worker')::int as worker from me`;
      const channel = `channel of ${name}`;
      // A queue's first job of a type makes the pair known; it only rings.
      await context.db.superSql`
      insert into queue.type_queues
      select type.id, line.id from queue.types as type, queue.queues as line
      where type.name = any (${[...types]}) and line.name = any (${[...queues]})
      on conflict do nothing`;
      await sql`
        select queue.arm_bells(${only(row).worker},
          array(select id from queue.queues where name = any (${[...queues]})),
          array(select id from queue.types where name = any (${[...types]})), ${channel}, ${offerMs})`;
      return { worker: only(row).worker, channel };
    }

    /** What is offered on a channel, and what rings, while something is done. */
    async function heard(
      { channel }: Sleeper,
      act: () => Promise<unknown>,
    ): Promise<{ offers: Offer[]; rings: string[] }> {
      const { sql } = context.db;
      const words: string[] = [];
      const hear = (word: string): void => void words.push(word);
      const ears = [await sql.listen(channel, hear), await sql.listen("millrace", hear)];
      await act();
      await sql`select pg_notify('millrace', 'end')`;
      await eventually(() => words.includes("end"));
      await Promise.all(ears.map((ear) => ear.unlisten()));
      const offers = words.map(readOffer).filter((offer) => offer !== null);
      return { offers, rings: words.filter((word) => word.startsWith("w:")) };
    }

    async function lease(
      id: string,
    ): Promise<{ id: string; is_offered: boolean; worker_id: number }> {
      const [row] = await context.db.superSql<
        { id: string; is_offered: boolean; worker_id: number }[]
      >`select id, is_offered, worker_id from queue.leases where ${id}::bigint = any (job_ids)`;
      return only(row);
    }

    async function runOut(): Promise<void> {
      await context.db.superSql`
        update queue.leases set expires_at = queue.clock() - interval '1 second'`;
    }

    it("give a new job to a worker that sleeps: it is leased, and all its worker needs is sent", async () => {
      const sleeper = await sleep("all", ["offer.all"]);
      let id = "";
      const { offers, rings } = await heard(sleeper, async () => {
        id = await rig.enqueue("offer.all", {
          payload: { to: 'Zoë "\\' },
          priority: "high",
          tenant: "acme",
          options: { timeout_ms: 1_000 },
        });
      });

      const held = await lease(id);
      assert.deepEqual([held.is_offered, held.worker_id], [true, sleeper.worker]);
      const [offer] = offers;
      const created = (await rig.row(id)).created_at.getTime();
      assert.deepEqual(only(offer).job, [
        held.id,
        id,
        "offer.all",
        "offer.all",
        "high",
        { to: 'Zoë "\\' },
        "acme",
        1,
        3,
        created,
        null,
        { timeout_ms: 1_000 },
      ]);
      assert.equal(only(offer).expires_at - only(offer).now, 60_000);
      assert.ok(only(offer).now >= created);
      assert.deepEqual(rings, []);
      assert.equal(await rig.status(id), "processing");
      assert.equal((await rig.claim("offer.all")).length, 0);
    });

    it("are made once: the next job waits until the bell is armed again", async () => {
      const sleeper = await sleep("once", ["offer.once"]);
      const { offers, rings } = await heard(sleeper, async () => {
        await rig.enqueue("offer.once");
        await rig.enqueue("offer.once");
      });

      assert.equal(offers.length, 1);
      assert.deepEqual(rings, []);
      assert.equal((await rig.claim("offer.once", { batch: 5 })).length, 1);
    });

    it("are seen when the enqueue commits, and not when it rolls back", async () => {
      const sleeper = await sleep("commit", ["offer.commit"]);
      const { offers } = await heard(sleeper, async () => {
        await rig.sql
          .begin(async (tx) => {
            await tx`select public.enqueue_job('offer.commit')`;
            throw new Error("no");
          })
          .catch(() => undefined);
      });
      assert.deepEqual(offers, []);

      const again = await heard(sleeper, () => rig.enqueue("offer.commit"));
      assert.equal(again.offers.length, 1);
    });

    const plain: readonly [string, NewJob][] = [
      ["that may run only once", { maxRetries: 0 }],
      ["that is large", { payload: { text: "x".repeat(5_000) } }],
      // Few bytes as jsonb, six for each of them as text.
      ["that is large as text", { payload: { text: "\u0001".repeat(1_500) } }],
    ];
    for (const [what, job] of plain) {
      it(`leave a job alone ${what}: it rings, and is claimed`, async () => {
        const sleeper = await sleep("plain", ["offer.plain"]);
        const { offers, rings } = await heard(sleeper, () => rig.enqueue("offer.plain", job));

        assert.deepEqual(offers, []);
        assert.deepEqual(rings, [`w:${sleeper.worker}`]);
        assert.equal((await rig.claim("offer.plain")).length, 1);
      });
    }

    it("hold the longest names there may be", async () => {
      const name = "\u{1F600}".repeat(200);
      const sleeper = await sleep("names", [name]);
      const { offers } = await heard(sleeper, () =>
        rig.enqueue(name, {
          tenant: "\u{1F601}".repeat(200),
          payload: { text: "\u0001".repeat(825) },
        }),
      );
      assert.equal(offers.length, 1);
    });

    it("leave a job alone that is not due yet", async () => {
      const sleeper = await sleep("later", ["offer.later"]);
      const { offers } = await heard(sleeper, async () =>
        rig.enqueue("offer.later", { scheduledAt: await rig.inMs(60_000) }),
      );
      assert.deepEqual(offers, []);
    });

    it("leave a job alone of a type that the worker does not run", async () => {
      await rig.enqueue("offer.other", { queue: "offer.shared" });
      await rig.enqueue("offer.mine", { queue: "offer.shared" });
      await rig.clear();
      const sleeper = await sleep("types", ["offer.mine"], ["offer.shared"]);

      const other = await heard(sleeper, () =>
        rig.enqueue("offer.other", { queue: "offer.shared" }),
      );
      assert.deepEqual(other.offers, []);
      await rig.clear();
      await sleep("types", ["offer.mine"], ["offer.shared"]);
      const mine = await heard(sleeper, () => rig.enqueue("offer.mine", { queue: "offer.shared" }));
      assert.equal(mine.offers.length, 1);
    });

    it("are not made of a paused queue, nor of one that is first in, first out", async () => {
      for (const [name, setting] of [
        ["offer.paused", "is_paused = true, paused_at = now()"],
        ["offer.fifo", "is_fifo = true"],
      ] as const) {
        const sleeper = await sleep(name, [name]);
        await context.db.superSql.unsafe(
          `update queue.queues set ${setting} where name = '${name}'`,
        );
        const { offers } = await heard(sleeper, () => rig.enqueue(name));
        assert.deepEqual(offers, [], name);
      }
    });

    it("are not made while older jobs are pending: the worker is woken for them", async () => {
      await rig.enqueue("offer.order");
      const sleeper = await sleep("order", ["offer.order"]);
      const { offers, rings } = await heard(sleeper, () => rig.enqueue("offer.order"));

      assert.deepEqual(offers, []);
      assert.deepEqual(rings, [`w:${sleeper.worker}`]);
    });

    it("are made again once the older jobs are claimed", async () => {
      await rig.enqueue("offer.again");
      const sleeper = await sleep("again", ["offer.again"]);
      await rig.claim("offer.again");
      await sleep("again", ["offer.again"]);
      const { offers } = await heard(sleeper, () => rig.enqueue("offer.again"));

      assert.equal(offers.length, 1);
    });

    it("that nobody answers end soon: the job is pending as before, and nothing is charged", async () => {
      await sleep("gone", ["offer.gone"]);
      const id = await rig.enqueue("offer.gone", { maxRetries: 1 });
      await runOut();
      await rig.sql`select queue.maintain()`;

      assert.equal(await rig.status(id), "pending");
      const [run] = await rig.sql`
        select outcome, attempt, error, reason from queue.runs where job_id = ${id}`;
      assert.deepEqual(run, {
        outcome: "released",
        attempt: 1,
        error: null,
        reason: "worker gone, to which it was offered, did not answer",
      });
      const job = await rig.take("offer.gone");
      assert.equal(job.attempt, 1);
      const [token] = await context.db.superSql`
        select crashes from queue.leases where id = ${job.lease_id}`;
      assert.equal(token?.["crashes"], 0);
    });

    it("that nobody answers are found by whoever looks for work and finds none", async () => {
      const { worker } = await sleep("asks", ["offer.asks"]);
      await rig.enqueue("offer.asks");
      await runOut();

      const look = async (): Promise<{ jobs: unknown; next_due_in_ms: number | null }> => {
        const [row] = await rig.sql<{ answer: { jobs: unknown; next_due_in_ms: number | null } }[]>`
          select queue.advance(${worker}, p_limit => 10,
            p_type_ids => array(select id from queue.types where name = 'offer.asks')) as answer`;
        return only(row).answer;
      };
      assert.deepEqual([(await look()).jobs, (await look()).jobs === null], [null, false]);
    });

    it("become common leases once they are extended", async () => {
      const { worker } = await sleep("extends", ["offer.extends"]);
      const id = await rig.enqueue("offer.extends");
      const held = await lease(id);
      await rig.sql`select queue.extend_leases(${worker}, array[${held.id}::bigint], 30000)`;

      assert.equal((await lease(id)).is_offered, false);
      await runOut();
      await rig.sql`select queue.maintain()`;
      const [run] = await rig.sql`select outcome from queue.runs where job_id = ${id}`;
      assert.equal(run?.["outcome"], "lost");
    });

    it("are completed like any other", async () => {
      await sleep("ends", ["offer.ends"]);
      const id = await rig.enqueue("offer.ends");
      const held = await lease(id);
      assert.equal(await rig.complete({ id, lease_id: held.id }), true);
      assert.deepEqual(await rig.trail(id), [
        ">pending",
        "pending>processing",
        "processing>completed",
      ]);
    });

    it("that are on their way are not forgotten with the leases of an outage", async () => {
      const { worker } = await sleep("outage", ["offer.outage"]);
      const id = await rig.enqueue("offer.outage");
      const [row] = await rig.sql`select queue.other_leases(${worker}, '{}') as ids`;
      assert.deepEqual(row?.["ids"], []);
      assert.equal(await rig.status(id), "processing");
    });

    it("go back when their worker signs out, and no more are made to it", async () => {
      const sleeper = await sleep("leaves", ["offer.leaves"]);
      const id = await rig.enqueue("offer.leaves");
      await sleep("leaves", ["offer.leaves"]);
      await rig.sql`select queue.unregister_worker(${sleeper.worker})`;

      assert.equal(await rig.status(id), "pending");
      const { offers, rings } = await heard(sleeper, () => rig.enqueue("offer.leaves"));
      assert.deepEqual([offers, rings], [[], []]);
    });

    it("are not made to a worker that wants no more", async () => {
      const sleeper = await sleep("full", ["offer.full"]);
      await rig.sql`select queue.disarm_bells(${sleeper.worker})`;
      const { offers, rings } = await heard(sleeper, () => rig.enqueue("offer.full"));
      assert.deepEqual([offers, rings], [[], []]);
    });

    it("go to one worker each", async () => {
      const one = await sleep("one", ["offer.two"]);
      const two = await sleep("two", ["offer.two"]);
      const ids = [await rig.enqueue("offer.two"), await rig.enqueue("offer.two")];
      const workers = await Promise.all(ids.map(async (id) => (await lease(id)).worker_id));
      assert.deepEqual(workers.sort(), [one.worker, two.worker].sort());
    });
  },
  // A pooler in transaction mode can't LISTEN.
  { pooler: false },
);

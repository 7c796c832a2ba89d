import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { neverWait, type Race, withRace, workerName } from "./race.ts";

interface Claimed {
  readonly id: string;
  readonly payload: unknown;
  readonly tenant_id: string | null;
  readonly queue: string;
}

/** Everything of these types that can be claimed now, in the order of ids. */
async function claimAll(sql: TestSql, types: readonly string[]): Promise<Claimed[]> {
  const rows = await sql<Claimed[]>`
    select job.id::text, payload, tenant_id, queue
    from public.get_next_job(${workerName(sql)}, ${[...types]}::text[], 100) as job order by job.id`;
  return rows.map((row) => ({ ...row }));
}

interface Given {
  readonly payload?: unknown;
  readonly tenant?: string;
  readonly queue?: string;
  readonly key?: string;
  readonly at?: string;
  readonly parents?: readonly string[];
}

async function enqueue(sql: TestSql, type: string, given: Given = {}): Promise<string> {
  const [row] = await sql<{ id: string }[]>`
    select public.enqueue_job(
      p_type => ${type}, p_payload => ${JSON.stringify(given.payload ?? {})}::text::jsonb,
      p_tenant_id => ${given.tenant ?? null}, p_queue => ${given.queue ?? null},
      p_idempotency_key => ${given.key ?? null}, p_scheduled_at => ${given.at ?? null}::text::timestamptz,
      p_depends_on => ${given.parents ? [...given.parents] : null}::bigint[])::text as id`;
  assert.ok(row);
  return row.id;
}

async function explain(race: Race, id: string): Promise<{ status: string; codes: string[] }> {
  const [row] = await race.db.sql<{ told: { status: string; reasons: { code: string }[] } }[]>`
    select public.explain_job(${id}) as told`;
  assert.ok(row);
  return { status: row.told.status, codes: row.told.reasons.map(({ code }) => code) };
}

async function outcome(race: Race, id: string): Promise<string> {
  const [row] = await race.db.sql<{ status: string }[]>`
    select queue.job_outcome(${id}) ->> 'status' as status`;
  assert.ok(row);
  return row.status;
}

/** Ann's open transaction makes the race's type; another type is known, which is the answer. */
async function holdName(race: Race): Promise<string> {
  const known = `${race.type}-known`;
  await enqueue(race.db.sql, known);
  await claimAll(race.eve, [known]);
  await race.ann`begin`;
  await enqueue(race.ann, race.type);
  return known;
}

/** What ann's open transaction makes first, and what bob enqueues beside it. */
const HELD: readonly { readonly what: string; ann: Given & { type?: string }; bob: Given }[] = [
  { what: "a type", ann: {}, bob: {} },
  {
    what: "a queue",
    ann: { type: "names.other", queue: "names.held" },
    bob: { queue: "names.held" },
  },
  {
    what: "a tenant",
    ann: { type: "names.other", tenant: "names.held" },
    bob: { tenant: "names.held" },
  },
];

describeOnEachServer("a name that an open transaction is making", (context) => {
  for (const { what, ann, bob } of HELD) {
    for (const end of ["commit", "rollback"] as const) {
      it(`${what}: another's job is not waited for, and runs once that transaction's ${end} is done`, () =>
        withRace(context.db, async (race) => {
          const { type = race.type, ...given } = ann;
          const names = {
            ...(bob.queue !== undefined && { queue: `${bob.queue}.${end}` }),
            ...(bob.tenant !== undefined && { tenant: `${bob.tenant}.${end}` }),
          };
          // The names that are not in question are known.
          await enqueue(race.db.sql, "names.other");
          if (what !== "a type") await enqueue(race.db.sql, race.type);
          await claimAll(race.eve, ["names.other", race.type]);
          await race.ann`begin`;
          const first = await enqueue(race.ann, type, { ...given, ...names, payload: "ann" });

          const second = await enqueue(race.bob, race.type, { ...names, payload: "bob" });

          assert.ok(BigInt(second) > BigInt(first));
          assert.equal(await outcome(race, second), "pending");
          assert.deepEqual(await explain(race, second), {
            status: "pending",
            codes: ["name_held"],
          });
          assert.deepEqual(await claimAll(race.eve, [type, race.type]), []);
          await race.ann.unsafe(end);
          // What nobody makes any more is tried now and then.
          if (end === "rollback") await race.db.advance(1_000);
          const claimed = await claimAll(race.eve, [type, race.type]);
          const job = (id: string, payload: string) => ({
            id,
            payload,
            tenant_id: names.tenant ?? null,
            queue: names.queue ?? (payload === "ann" ? type : race.type),
          });
          assert.deepEqual(
            claimed,
            end === "commit" ? [job(first, "ann"), job(second, "bob")] : [job(second, "bob")],
          );
          assert.equal((await race.db.sql`select from queue.arrivals`).length, 0);
        }));
    }
  }

  it("two that bring two names in opposite order don't deadlock", () =>
    withRace(context.db, async (race) => {
      const [one, two] = [`${race.type}-1`, `${race.type}-2`];
      await race.ann`begin`;
      await race.bob`begin`;

      const ids = [
        await enqueue(race.ann, one, { tenant: one, payload: 1 }),
        await enqueue(race.bob, two, { tenant: two, payload: 2 }),
        await enqueue(race.ann, two, { tenant: two, payload: 3 }),
        await enqueue(race.bob, one, { tenant: one, payload: 4 }),
      ];
      await race.ann`commit`;
      await race.bob`commit`;

      assert.deepEqual(
        (await claimAll(race.eve, [one, two])).map(({ id, payload, tenant_id }) => [
          id,
          payload,
          tenant_id,
        ]),
        [
          [ids[0], 1, one],
          [ids[1], 2, two],
          [ids[2], 3, two],
          [ids[3], 4, one],
        ],
      );
    }));

  it("calls for many bring all of their jobs, with their parents", () =>
    withRace(context.db, async (race) => {
      const known = await holdName(race);

      const many = await race.bob<{ id: string; outcome: string }[]>`
        select id::text, outcome from public.enqueue_jobs(${JSON.stringify([
          { type: known, payload: "parent", ref: "p" },
          { type: race.type, payload: "child", depends_on_refs: ["p"] },
          { type: known, payload: "free", priority: "low", tenant_id: "names.bulk" },
        ])}::text::jsonb)`;
      const [alike] = await race.bob<{ ids: string[] }[]>`
        select queue.enqueue_alike(${race.type}, '[{"n": 1}, {"n": 2}]')::text[] as ids`;

      const ids = many.map(({ id }) => id);
      assert.deepEqual(
        many.map((made) => made.outcome),
        ["created", "created", "created"],
      );
      assert.deepEqual(await Promise.all(ids.map((id) => outcome(race, id))), [
        "pending",
        "blocked",
        "pending",
      ]);
      // What nobody makes any more is tried now and then.
      await race.db.advance(1_000);
      const early = await claimAll(race.eve, [known, race.type]);
      await race.ann`rollback`;
      await race.db.advance(1_000);
      const claimed = await claimAll(race.eve, [known, race.type]);
      assert.deepEqual(
        early.map(({ id, payload, tenant_id }) => [id, payload, tenant_id]),
        [
          [ids[0], "parent", null],
          [ids[2], "free", "names.bulk"],
        ],
      );
      assert.deepEqual(
        claimed.map(({ id, payload, tenant_id }) => [id, payload, tenant_id]),
        [
          [alike?.ids[0], { n: 1 }, null],
          [alike?.ids[1], { n: 2 }, null],
        ],
      );
      const [child] = await race.db.sql`
        select status, depends_on::text[] as parents from public.job_queue where id = ${ids[1] ?? ""}`;
      assert.deepEqual({ ...child }, { status: "blocked", parents: [ids[0]] });
    }));

  it("its jobs can be parents, cancelled, retried and found by their key", () =>
    withRace(context.db, async (race) => {
      const known = await holdName(race);
      const [parent, later, gone, back, keyed] = [
        await enqueue(race.bob, race.type, { payload: "parent" }),
        await enqueue(race.bob, race.type, { payload: "later", at: "2999-01-01" }),
        await enqueue(race.bob, race.type, { payload: "gone" }),
        await enqueue(race.bob, race.type, { payload: "back" }),
        await enqueue(race.bob, race.type, { payload: "keyed", key: "k" }),
      ];
      const child = await enqueue(race.eve, known, { payload: "child", parents: [parent] });
      const orphan = await enqueue(race.eve, known, { payload: "orphan", parents: [gone] });
      const cancel = (id: string) =>
        race.db.sql`select public.cancel_job(${id}, 'not wanted') as status`;

      assert.equal((await cancel(gone))[0]?.["status"], "cancelled");
      assert.equal((await cancel(gone))[0]?.["status"], "cancelled");
      await cancel(back);
      const [retried] = await race.db.sql`select public.retry_job(${back}) as status`;
      assert.equal(retried?.["status"], "pending");
      assert.equal(await enqueue(race.eve, race.type, { payload: "keyed", key: "k" }), keyed);
      assert.deepEqual(
        await Promise.all([parent, later, gone, back, child].map((id) => outcome(race, id))),
        ["pending", "scheduled", "cancelled", "pending", "blocked"],
      );
      await race.ann`rollback`;
      await race.db.advance(1_000);

      const claimed = await claimAll(race.eve, [known, race.type]);
      assert.deepEqual(
        claimed.map(({ id, payload }) => [id, payload]),
        [
          [parent, "parent"],
          [back, "back"],
          [keyed, "keyed"],
        ],
      );
      assert.deepEqual(
        await Promise.all([later, gone, child, orphan].map((id) => race.status(id))),
        ["scheduled", "cancelled", "blocked", "cancelled"],
      );
      const [told] = await race.db.sql`select last_error from public.job_queue where id = ${gone}`;
      assert.equal(told?.["last_error"], "not wanted");
      assert.equal(await enqueue(race.eve, race.type, { payload: "keyed", key: "k" }), keyed);
    }));

  it("in a snapshot that does not see a name made since, jobs come all the same", () =>
    withRace(context.db, async (race) => {
      await race.ann`begin isolation level repeatable read`;
      await race.ann`select from queue.types`;
      const first = await enqueue(race.bob, race.type, { tenant: "names.unseen" });

      const second = await enqueue(race.ann, race.type, { tenant: "names.unseen" });
      await race.ann`commit`;

      const claimed = await claimAll(race.eve, [race.type]);
      assert.deepEqual(
        claimed.map(({ id, tenant_id }) => [id, tenant_id]),
        [
          [first, "names.unseen"],
          [second, "names.unseen"],
        ],
      );
    }));

  it("a name that can't be one is refused whoever makes another", () =>
    withRace(context.db, async (race) => {
      await race.ann`begin`;
      await enqueue(race.ann, race.type);

      await assert.rejects(enqueue(race.bob, race.type, { queue: "with space" }), {
        code: "MR011",
      });
      await assert.rejects(enqueue(race.bob, race.type, { tenant: "" }), { code: "MR012" });
      assert.equal((await race.db.sql`select from queue.arrivals`).length, 0);
    }));

  it("known names and keys of others are not waited for", () =>
    withRace(context.db, async (race) => {
      await race.enqueue({ tenant: "t" });
      await neverWait(race.bob);
      await race.ann`begin`;
      await race.enqueue({ by: race.ann, tenant: "t", key: "mine" });

      const id = await race.enqueue({ by: race.bob, tenant: "t", key: "yours" });
      await race.ann`commit`;

      assert.equal(await race.status(id), "pending");
    }));

  for (const name of ["types", "queues"] as const) {
    it(`a row of queue.${name} that somebody holds locked delays no job, not even the first of its type on a queue`, () =>
      withRace(context.db, async (race) => {
        const queue = `${race.type}.known`;
        await enqueue(race.db.sql, `${race.type}.other`, { queue });
        await enqueue(race.db.sql, race.type);
        await claimAll(race.eve, [race.type, `${race.type}.other`]);
        await race.ann`begin`;
        await race.ann`select from queue.${race.ann(name)} for update`;

        const one = await enqueue(race.bob, race.type, { queue, payload: "one" });
        const [many] = await race.bob<{ id: string }[]>`
          select id::text from public.enqueue_jobs(jsonb_build_array(
            jsonb_build_object('type', ${`${race.type}.other`}::text, 'queue', ${race.type}::text, 'payload', 'many')))`;

        assert.equal((await race.db.sql`select from queue.arrivals`).length, 0);
        assert.deepEqual(await claimAll(race.eve, [race.type, `${race.type}.other`]), [
          { id: one, payload: "one", tenant_id: null, queue },
          { id: many?.id, payload: "many", tenant_id: null, queue: race.type },
        ]);
        await race.ann`commit`;
      }));
  }
});

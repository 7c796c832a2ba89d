import assert from "node:assert/strict";
import { it } from "node:test";
import { backendPid, waitForLockWait } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { signIn } from "./end-users.ts";
import { only, refusal, rigOf } from "./rig.ts";

describeOnEachServer("idempotency keys", (context) => {
  it("a second enqueue with a key returns the first job and makes none", async () => {
    const { claim, enqueue, row } = rigOf(context.db);

    const first = await enqueue("key", { key: "order-1", payload: { n: 1 } });
    const second = await enqueue("key", { key: "order-1", payload: { n: 1.0 } });

    assert.equal(second, first);
    assert.deepEqual((await row(first)).payload, { n: 1 });
    assert.equal((await claim("key", { batch: 10 })).length, 1);
  });

  it("a key still counts when the job has ended", async () => {
    const { complete, enqueue, start } = rigOf(context.db);
    const job = await start("ended", { key: "done" });
    await complete(job);

    assert.equal(await enqueue("ended", { key: "done" }), job.id);
  });

  it("tenants have keys of their own, and so have jobs without one", async () => {
    const { enqueue } = rigOf(context.db);

    const ids = [
      await enqueue("own", { key: "k", tenant: "a" }),
      await enqueue("own", { key: "k", tenant: "b" }),
      await enqueue("own", { key: "k" }),
    ];

    assert.equal(new Set(ids).size, 3);
    assert.deepEqual(
      [
        await enqueue("own", { key: "k", tenant: "a" }),
        await enqueue("own", { key: "k", tenant: "b" }),
        await enqueue("own", { key: "k" }),
      ],
      ids,
    );
  });

  it("a key of one type does not hide a job of another", async () => {
    const { enqueue, row } = rigOf(context.db);

    const first = await enqueue("one.type", { key: "shared", tenant: "t" });
    const second = await enqueue("other.type", { key: "shared", tenant: "t" });

    assert.notEqual(second, first);
    assert.deepEqual(
      [(await row(first)).type, (await row(second)).type],
      ["one.type", "other.type"],
    );
    assert.equal(await enqueue("other.type", { key: "shared", tenant: "t" }), second);
  });

  it("another payload under a known key is refused, by the name of the first job", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const first = await enqueue("conflict", { key: "k", payload: { a: 1, b: [2] } });

    const refused = await refusal(enqueue("conflict", { key: "k", payload: { a: 1, b: [3] } }));
    const many = await refusal(
      sql`select from public.enqueue_jobs('[{"type": "conflict"},
        {"type": "conflict", "idempotency_key": "k", "payload": {"a": 2}}]')`,
    );
    const own = await refusal(
      sql`select from public.enqueue_jobs('[{"type": "conflict", "idempotency_key": "n", "payload": 1},
        {"type": "conflict", "idempotency_key": "n", "payload": 2}]')`,
    );

    assert.deepEqual([refused.code, refused.detail], ["MR017", first]);
    assert.match(refused.message, new RegExp(`^the idempotency key 'k' belongs to job ${first}`));
    assert.deepEqual([many.code, many.detail], ["MR017", first]);
    assert.match(many.message, /^element 2: /);
    assert.equal(own.code, "MR017");
    assert.match(own.message, /^element 2: /);
    assert.equal(await enqueue("conflict", { key: "k", payload: { b: [2], a: 1 } }), first);
  });

  it("with on_key_conflict the first job is returned whatever its payload", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const options = { on_key_conflict: "return" };
    const first = await enqueue("lax", { key: "k", payload: 1 });

    assert.equal(await enqueue("lax", { key: "k", payload: 2, options }), first);
    const [many] = await sql<{ id: string; outcome: string }[]>`
      select id::text, outcome from public.enqueue_jobs('[{"type": "lax", "idempotency_key": "k",
        "payload": 3, "options": {"on_key_conflict": "return"}}]')`;
    assert.deepEqual({ ...many }, { id: first, outcome: "existing" });
    assert.equal(
      (await refusal(enqueue("lax", { options: { on_key_conflict: "replace" } }))).code,
      "MR010",
    );
  });

  it("a cancelled job has its key no more, unless it was retried before", async () => {
    const { enqueue, row, sql } = rigOf(context.db);
    const [one, two, three] = [
      await enqueue("freed", { key: "1", payload: 1 }),
      await enqueue("freed", { key: "2", payload: 1 }),
      await enqueue("freed", { key: "3", payload: 1 }),
    ];
    for (const id of [one, two, three]) await sql`select public.cancel_job(${id})`;
    await sql`select public.retry_job(${two})`;

    const again = await enqueue("freed", { key: "1", payload: 2 });
    const many = await sql<{ id: string; outcome: string }[]>`
      select id::text, outcome from public.enqueue_jobs('[
        {"type": "freed", "idempotency_key": "2", "payload": 1},
        {"type": "freed", "idempotency_key": "3", "payload": 3},
        {"type": "freed", "idempotency_key": "3", "payload": 3}]')`;

    assert.notEqual(again, one);
    assert.deepEqual((await row(again)).payload, 2);
    assert.equal(await enqueue("freed", { key: "1", payload: 2 }), again);
    assert.deepEqual(
      many.map(({ id, outcome }) => [id, outcome]),
      [
        [two, "existing"],
        [many[1]?.id, "created"],
        [many[1]?.id, "existing"],
      ],
    );
    assert.notEqual(many[1]?.id, three);
  });

  it("a failed job keeps its key until it is purged", async () => {
    const { bury, enqueue, sql } = rigOf(context.db);
    const dead = await bury("kept", { key: "k", payload: 1 });

    assert.equal(await enqueue("kept", { key: "k", payload: 1 }), dead);
    await sql`select public.purge_jobs(array[${dead}]::bigint[])`;
    assert.notEqual(await enqueue("kept", { key: "k", payload: 1 }), dead);
  });

  it("end users neither take nor find the keys of services, and the other way round", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await sql`insert into queue.types (name, is_public) values ('apart', true)`;
    const user = rigOf(context.db, signIn(context.db, "acme", "nobody"));
    const ofService = await enqueue("apart", { key: "k", tenant: "acme", payload: "service" });

    const ofUser = await user.enqueue("apart", { key: "k", payload: "user" });

    assert.notEqual(ofUser, ofService);
    assert.equal(
      await enqueue("apart", { key: "k", tenant: "acme", payload: "service" }),
      ofService,
    );
    assert.equal(await user.enqueue("apart", { key: "k", payload: "user" }), ofUser);
    assert.equal(
      (await refusal(user.enqueue("apart", { key: "k", payload: "probe" }))).detail,
      ofUser,
    );
  });

  it("a key that was rolled back is free again", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await assert.rejects(
      sql.begin(async (tx) => {
        await tx`select public.enqueue_job('free', p_idempotency_key => 'undone')`;
        throw new Error("rolled back");
      }),
      /rolled back/,
    );

    const id = await enqueue("free", { key: "undone" });

    assert.equal(await enqueue("free", { key: "undone" }), id);
  });

  it("of two at the same time one makes the job and the other waits and gets it", async () => {
    const { claim, sql } = rigOf(context.db);
    const [one, two] = [context.db.connect({ max: 1 }), context.db.connect({ max: 1 })];
    const pid = await backendPid(two);
    const outcomes = await one.begin(async (tx) => {
      const [first] = await tx`
        select * from queue.enqueue_one('both', p_idempotency_key => 'same')`;
      const second =
        two`select * from queue.enqueue_one('both', p_idempotency_key => 'same')`.execute();
      await waitForLockWait(sql, pid);
      return { first, second };
    });

    const [second] = await outcomes.second;

    assert.equal(outcomes.first?.["outcome"], "created");
    assert.deepEqual({ ...second }, { id: outcomes.first?.["id"], outcome: "existing" });
    assert.equal((await claim("both", { batch: 10 })).length, 1);
  });

  it("in one call the first element with a key makes the job, the others get it", async () => {
    const { sql } = context.db;

    const made = await sql<{ id: string; outcome: string }[]>`
      select * from public.enqueue_jobs('[
        {"type": "call", "idempotency_key": "x", "payload": 1},
        {"type": "call", "idempotency_key": "y"},
        {"type": "call", "idempotency_key": "x", "payload": 1},
        {"type": "call"}
      ]')`;

    assert.deepEqual(
      made.map(({ outcome }) => outcome),
      ["created", "created", "existing", "created"],
    );
    assert.equal(made[2]?.id, made[0]?.id);
    assert.equal(new Set(made.map(({ id }) => id)).size, 3);
  });

  it("a repeated flow of parents and children makes no job and no edge twice", async () => {
    const { sql } = context.db;
    const enqueueFlow = () => sql<{ id: string; outcome: string }[]>`
      select * from public.enqueue_jobs('[
        {"type": "flow", "ref": "p", "idempotency_key": "flow:p"},
        {"type": "flow", "depends_on_refs": ["p"], "idempotency_key": "flow:c"}
      ]')`;
    const first = await enqueueFlow();

    const again = await enqueueFlow();

    assert.deepEqual(
      again.map(({ id, outcome }) => [id, outcome]),
      first.map(({ id }) => [id, "existing"]),
    );
    const [edges] = await sql`
      select count(*)::int as n from queue.dependencies where parent_id = ${only(first[0]).id}`;
    assert.equal(edges?.["n"], 1);
  });

  it("a new child may depend on a parent that its key found", async () => {
    const { sql } = context.db;
    const { enqueue, row } = rigOf(context.db);
    const parent = await enqueue("found", { key: "parent" });

    const made = await sql<{ id: string; outcome: string }[]>`
      select * from public.enqueue_jobs('[
        {"type": "found", "ref": "p", "idempotency_key": "parent"},
        {"type": "found", "depends_on_refs": ["p"]}
      ]')`;

    const child = await row(only(made[1]).id);
    assert.deepEqual([child.status, child.depends_on], ["blocked", [parent]]);
  });

  it("keys of 1 to 255 characters are taken, others refused", async () => {
    const { enqueue } = rigOf(context.db);

    await enqueue("length", { key: "k" });
    await enqueue("length", { key: "é".repeat(255) });
    const refused = [
      await refusal(enqueue("length", { key: "" })),
      await refusal(enqueue("length", { key: "k".repeat(256) })),
    ];

    assert.deepEqual(
      refused.map(({ code }) => code),
      ["MR009", "MR009"],
    );
  });

  it("very many known keys are found in one pass, whatever the planner believes", async () => {
    const { sql } = context.db;
    await sql`truncate queue.idempotency_keys`;
    await sql`analyze queue.idempotency_keys`;
    const enqueue = () =>
      sql.begin(async (tx) => {
        // Each compared with all others they would take minutes.
        await tx`set local statement_timeout = '15s'`;
        return tx<{ id: string; outcome: string }[]>`
          select made.id::text, made.outcome from public.enqueue_jobs((
            select jsonb_agg(jsonb_build_object('type', 'again', 'idempotency_key', n::text, 'payload', n))
            from generate_series(1, 20000) as n)) as made order by made.ordinal`;
      });

    const first = await enqueue();
    const again = await enqueue();

    assert.equal(new Set(first.map(({ id }) => id)).size, 20_000);
    assert.deepEqual(
      again.map(({ id, outcome }) => [id, outcome]),
      first.map(({ id }) => [id, "existing"]),
    );
  });
});

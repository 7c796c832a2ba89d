import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";

interface Registered {
  readonly worker: number;
  readonly queue_ids: number[];
  readonly type_ids: number[];
}

describeOnEachServer("workers", (context) => {
  async function register(
    name: string | null,
    {
      details = {},
      queues = [],
      types = [],
    }: { details?: unknown; queues?: string[]; types?: string[] } = {},
  ): Promise<Registered> {
    const { sql } = context.db;
    const [row] = await sql<{ answer: Registered }[]>`
      select queue.register_worker(${name}, ${sql.json(details as never)}, ${queues}, ${types}) as answer`;
    return only(row).answer;
  }

  async function workerRow(name: string): Promise<Record<string, unknown>> {
    const [row] = await context.db.sql`select * from queue.workers where name = ${name}`;
    return { ...only(row) };
  }

  it("sign in under a name, with what they serve, and get short ids in that order", async () => {
    const { sql } = context.db;

    const answer = await register("signed", {
      details: { host: "h" },
      queues: ["line.b", "line.a"],
      types: ["type.b", "type.a", "type.c"],
    });

    const row = await workerRow("signed");
    assert.deepEqual(
      [row["id"], row["is_registered"], row["queue_names"], row["type_names"], row["details"]],
      [answer.worker, true, ["line.b", "line.a"], ["type.b", "type.a", "type.c"], { host: "h" }],
    );
    const queues =
      await sql`select name from queue.queues where name like 'line.%' order by array_position(${answer.queue_ids}, id)`;
    const types =
      await sql`select name from queue.types where name like 'type.%' order by array_position(${answer.type_ids}, id)`;
    assert.deepEqual(
      [queues.map((queue) => queue["name"]), types.map((type) => type["name"])],
      [
        ["line.b", "line.a"],
        ["type.b", "type.a", "type.c"],
      ],
    );
  });

  it("that sign in again under their name stay the same worker", async () => {
    const first = await register("again", { types: ["one"] });
    const second = await register("again", { types: ["two"] });

    assert.equal(second.worker, first.worker);
    assert.deepEqual((await workerRow("again"))["type_names"], ["two"]);
  });

  it("show by a heartbeat that they live, and may bring news of themselves", async () => {
    const { sql } = context.db;
    const { worker } = await register("beating", { details: { jobs: 1 } });
    const before = await workerRow("beating");
    await context.db.advance(30_000);

    const [quiet] = await sql`select queue.heartbeat_worker(${worker}) as known`;
    const middle = await workerRow("beating");
    const [talking] = await sql`select queue.heartbeat_worker(${worker}, '{"jobs": 2}') as known`;
    const after = await workerRow("beating");

    assert.deepEqual([quiet?.["known"], talking?.["known"]], [true, true]);
    assert.ok(Number(middle["seen_at"]) - Number(before["seen_at"]) >= 30_000);
    assert.deepEqual([middle["details"], after["details"]], [{ jobs: 1 }, { jobs: 2 }]);
  });

  it("whose row is gone hear it at the heartbeat", async () => {
    const [row] = await context.db.sql`select queue.heartbeat_worker(999999) as known`;

    assert.equal(row?.["known"], false);
  });

  it("that sign out count as gone, and sleep no more", async () => {
    const { sql } = context.db;
    const { worker, type_ids, queue_ids } = await register("leaving", {
      queues: ["x"],
      types: ["x"],
    });
    await sql`select queue.arm_bells(${worker}, ${queue_ids}, ${type_ids})`;

    await sql`select queue.unregister_worker(${worker})`;

    assert.equal((await workerRow("leaving"))["is_registered"], false);
    assert.equal((await sql`select from queue.bells where worker_id = ${worker}`).length, 0);
  });

  it("that gave no sign of life for long are pruned, unless they hold a lease", async () => {
    const { start, sql } = rigOf(context.db);
    await register("old");
    await start("held", {}, { worker: "holder", seconds: 86_400 });
    await context.db.advance(9 * 86_400_000);
    await register("young");
    await sql`update queue.leases set expires_at = queue.clock() + interval '1 hour'`;

    await sql`select queue.maintain()`;

    const names = await sql<{ name: string }[]>`
      select name from queue.workers where name in ('old', 'young', 'holder') order by name`;
    assert.deepEqual(
      names.map(({ name }) => name),
      ["holder", "young"],
    );
  });

  it("that are gone for a minute lose their bells", async () => {
    const { sql } = context.db;
    const { worker, type_ids, queue_ids } = await register("asleep", {
      queues: ["b"],
      types: ["b"],
    });
    await sql`select queue.arm_bells(${worker}, ${queue_ids}, ${type_ids})`;
    await context.db.advance(61_000);

    await sql`select queue.maintain()`;

    assert.equal((await sql`select from queue.bells where worker_id = ${worker}`).length, 0);
  });

  it("need a name of 1 to 200 characters", async () => {
    const refused = [
      await refusal(register(null)),
      await refusal(register("")),
      await refusal(register("w".repeat(201))),
    ];

    assert.deepEqual(
      refused.map(({ code, hint }) => [code, hint]),
      Array.from({ length: 3 }, () => ["MR013", "Use a new UUID for each start of a process."]),
    );
  });

  it("serve only names that a type or a queue can have", async () => {
    const refused = [
      await refusal(register("bad", { types: ["a b"] })),
      await refusal(register("bad", { queues: [""] })),
    ];

    assert.deepEqual(
      refused.map(({ code }) => code),
      ["MR001", "MR011"],
    );
    assert.equal((await context.db.sql`select from queue.workers where name = 'bad'`).length, 0);
  });
});

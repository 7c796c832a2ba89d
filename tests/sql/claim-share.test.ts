/** The claim of a run that takes at most so many jobs of each tenant, and goes from tenant to tenant. */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";
import { registerWorker } from "./worker-calls.ts";

interface Share {
  readonly ids: readonly string[];
  readonly mark: unknown;
}

describeOnEachServer("a claim of shares", (context) => {
  let worker = 0;
  before(async () => {
    worker = await registerWorker(context.db.sql, "sharer");
  });
  beforeEach(() => rigOf(context.db).clear());

  /** One claim, and the mark to go on from. */
  async function claim(
    perTenant: number,
    mark: unknown,
    { limit = 100, tenant = null }: { limit?: number; tenant?: string | null } = {},
  ): Promise<Share> {
    const { sql } = context.db;
    const rows = await sql<{ ids: string[] | null; mark: unknown }[]>`
      select o_ids::text[] as ids, o_mark as mark from queue.claim_share(
        ${worker}, null, null, null, (select id from queue.tenants where name = ${tenant}), ${perTenant}, ${limit}, 30000,
        ${mark === null ? null : sql.json(mark as never)}::json)`;
    const { ids, mark: next } = only(rows[0]);
    return { ids: ids ?? [], mark: next };
  }

  /** Claims until there is nothing more to have. */
  async function claimAll(perTenant: number, limit = 100, tenant: string | null = null) {
    const parts: string[][] = [];
    let mark: unknown = null;
    for (;;) {
      const share = await claim(perTenant, mark, { limit, tenant });
      if (share.ids.length === 0) return parts;
      parts.push([...share.ids]);
      mark = share.mark;
    }
  }

  async function many(count: number, tenant?: string, type = "shared"): Promise<string[]> {
    const ids: string[] = [];
    for (let n = 0; n < count; n += 1) {
      ids.push(await rigOf(context.db).enqueue(type, tenant === undefined ? {} : { tenant }));
    }
    return ids;
  }

  it("takes of each tenant what it may have, and of jobs without one as of one tenant", async () => {
    const [none, a, b] = [await many(4), await many(5, "a"), await many(1, "b")];

    const parts = await claimAll(3);

    assert.deepEqual(parts.flat().sort(), [...none.slice(0, 3), ...a.slice(0, 3), ...b].sort());
  });

  it("counts over claims of any size", async () => {
    const [a, b] = [await many(5, "a"), await many(5, "b")];

    const parts = await claimAll(3, 2);

    assert.deepEqual(
      parts.map(({ length }) => length),
      [2, 2, 2],
    );
    assert.deepEqual(parts.flat().sort(), [...a.slice(0, 3), ...b.slice(0, 3)].sort());
  });

  it("takes the more urgent of a tenant's jobs, over all queues", async () => {
    const { enqueue } = rigOf(context.db);
    await enqueue("share.one", { tenant: "a", priority: "low" });
    const urgent = await enqueue("share.two", { tenant: "a", priority: "critical" });

    assert.deepEqual(await claimAll(1), [[urgent]]);
  });

  it("for one tenant takes its jobs and no others", async () => {
    const [a] = [await many(4, "a"), await many(4, "b")];

    assert.deepEqual((await claimAll(3, 2, "a")).flat(), a.slice(0, 3));
  });

  it("takes a queue that is first in, first out, for one tenant", async () => {
    const { sql } = context.db;
    await many(1, "a", "strict");
    await rigOf(context.db).clear();
    await sql`update queue.queues set is_fifo = true where name = 'strict'`;
    const [first, second] = [await many(1, "b", "strict"), await many(1, "a", "strict")];
    const [third, other] = [await many(1, "c", "strict"), await many(1, "a")];

    const all = (await claimAll(2)).flat();
    await sql`update queue.queues set is_fifo = false where name = 'strict'`;

    assert.deepEqual(all, [...first, ...second, ...other]);
    assert.equal(await rigOf(context.db).status(only(third[0])), "pending");
  });

  it("does not come back to a tenant whose jobs came later", async () => {
    await many(1, "a");
    const b = await many(1, "b");
    const first = await claim(1, null, { limit: 1 });
    await many(3, "a");

    const second = await claim(1, first.mark);
    const third = await claim(1, second.mark);

    assert.deepEqual([second.ids, third.ids], [b, []]);
  });
});

import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type Rig, rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

const MIB = 1024 * 1024;
const LARGE = 960_000;
/** So many of them fit into a claim. */
const FITTING = 4;

describeOnEachServer("the bytes of a claim", (context) => {
  let rig: Rig;
  let worker: number;

  beforeEach(async () => {
    rig = rigOf(context.db);
    await rig.clear();
    worker = await registerWorker(rig.sql, crypto.randomUUID());
  });

  /** Payloads of so many bytes; `random` ones don't get smaller by compression. */
  async function enqueue(
    type: string,
    count: number,
    bytes: number,
    isRandom = true,
  ): Promise<string[]> {
    const rows = await rig.sql<{ id: string }[]>`
      select public.enqueue_job(${type}, jsonb_build_object('n', n, 'text', case
        when ${isRandom} then (
          select string_agg(md5(random()::text || n || piece), '') from generate_series(1, ${Math.ceil(bytes / 32)}) as piece)
        else repeat('x', ${bytes}) end))::text as id
      from generate_series(1, ${count}) as n`;
    return rows.map(({ id }) => id);
  }

  async function drain(type: string, limit: number): Promise<{ ids: string[]; claims: number[] }> {
    const ids: string[] = [];
    const claims: number[] = [];
    let mark: unknown = {};
    for (;;) {
      const answer = await advance(rig.sql, worker, { types: [type], limit, mark });
      if (answer.jobs.length === 0) return { ids, claims };
      for (const [lease, id, , , , payload, , attempt] of answer.jobs) {
        assert.equal(
          (payload as { n: number }).n,
          ids.length + 1,
          "each payload goes with its own id",
        );
        assert.equal(attempt, 1);
        ids.push(id);
        await rig.complete({ id, lease_id: lease });
      }
      claims.push(answer.jobs.length);
      mark = answer.mark;
    }
  }

  for (const isRandom of [true, false]) {
    const kind = isRandom ? "payloads" : "payloads that compress well";
    it(`a claim brings as many ${kind} as fit, and says that there are more`, async () => {
      const made = await enqueue("bytes.large", 20, LARGE, isRandom);

      const { jobs, is_cut, mark } = await advance(rig.sql, worker, {
        types: ["bytes.large"],
        limit: 20,
        mark: {},
      });

      assert.deepEqual(
        jobs.map((job) => job[1]),
        made.slice(0, jobs.length),
      );
      assert.equal(jobs.length, FITTING);
      assert.equal(is_cut, true);
      assert.deepEqual(mark, {});
      const statuses = await Promise.all(made.map((id) => rig.status(id)));
      assert.deepEqual(
        statuses,
        made.map((_, at) => (at < FITTING ? "processing" : "pending")),
      );
    });
  }

  it("what did not fit comes with the next claims, in order and with no attempt counted", async () => {
    const made = await enqueue("bytes.rest", 30, LARGE);

    const { ids, claims } = await drain("bytes.rest", 30);

    assert.deepEqual(ids, made);
    assert.deepEqual(claims, [4, 4, 4, 4, 4, 4, 4, 2]);
    for (const id of made)
      assert.deepEqual(await rig.trail(id), [
        ">pending",
        "pending>processing",
        "processing>completed",
      ]);
  });

  it("a single payload beyond what fits comes alone", async () => {
    await context.db.superSql`update queue.settings set max_payload_bytes = 33554432`;
    const made = await enqueue("bytes.huge", 3, 9 * MIB);
    await context.db.superSql`update queue.settings set max_payload_bytes = 1048576`;

    const { ids, claims } = await drain("bytes.huge", 3);

    assert.deepEqual(ids, made);
    assert.deepEqual(claims, [1, 1, 1]);
  });

  it("small and large ones mixed keep their order, and suspects their leases", async () => {
    const small = await enqueue("bytes.mixed", 3, 10);
    const large = await enqueue("bytes.mixed", 7, LARGE);
    const last = await enqueue("bytes.mixed", 3, 10);
    await context.db.superSql`
      update queue.ready set crashes = 1, attempt = 1 where id in (${small[1] ?? 0}, ${large[6] ?? 0})`;

    const first = await advance(rig.sql, worker, { types: ["bytes.mixed"], limit: 16, mark: {} });
    const crashes = await rig.sql<{ id: string; crashes: number; attempt: number }[]>`
      select id::text, crashes, attempt from queue.ready where id = ${large[6] ?? 0}`;
    const second = await advance(rig.sql, worker, { types: ["bytes.mixed"], limit: 16, mark: {} });

    assert.deepEqual(
      first.jobs.map((job) => job[1]),
      [...small, ...large.slice(0, FITTING)],
    );
    assert.deepEqual([...crashes], [{ id: large[6], crashes: 1, attempt: 1 }]);
    assert.deepEqual(
      second.jobs.map((job) => job[1]),
      [...large.slice(FITTING), ...last],
    );
    const [held] = await rig.sql<{ n: number; alone: number }[]>`
      select count(*)::integer as n, count(*) filter (where crashes > 0 and cardinality(job_ids) = 1)::integer as alone
      from queue.leases where worker_id = ${worker}`;
    assert.deepEqual({ ...held }, { n: 4, alone: 2 });
  });
});

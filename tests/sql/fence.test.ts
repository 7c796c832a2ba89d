/**
 * The late worker: its lease ran out and its job was taken back. Whatever it says now is refused, and nothing changes.
 */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type ClaimedJob, only, type Rig, rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

/** What the late worker tries, and the answer that it gets. */
interface Attempt {
  readonly what: string;
  readonly act: (rig: Rig, late: ClaimedJob, worker: number) => Promise<unknown>;
  readonly refusal: unknown;
}

const ATTEMPTS: readonly Attempt[] = [
  { what: "complete", act: ({ complete }, late) => complete(late, "stale"), refusal: false },
  { what: "fail", act: ({ fail }, late) => fail(late, "stale"), refusal: null },
  {
    what: "fail for good",
    act: ({ fail }, late) => fail(late, "stale", { retryable: false }),
    refusal: null,
  },
  ...["completed", "failed", "snoozed", "released", "discarded", "cancelled"].map((outcome) => ({
    what: `settle_one as ${outcome}`,
    act: ({ settle }: Rig, late: ClaimedJob) =>
      settle(late, { outcome, detail: { delay_ms: 0, reason: "stale" }, result: "stale" }),
    refusal: null,
  })),
  {
    what: "report progress",
    async act({ sql }, late) {
      const [row] = await sql`
        select public.report_progress(${late.id}, 99, 'stale', null, ${late.lease_id}) as kept`;
      return row?.["kept"];
    },
    refusal: false,
  },
  {
    what: "extend its lease",
    async act({ sql }, late, worker) {
      const [row] = await sql<{ answer: { alive: string[] } }[]>`
        select queue.extend_leases(${worker}, array[${late.lease_id}]::bigint[], 60000) as answer`;
      return row?.answer.alive;
    },
    refusal: [],
  },
  {
    what: "complete by advance",
    act: async ({ sql }, late, worker) =>
      (await advance(sql, worker, { done: [late], results: ["stale"] })).refused.length,
    refusal: 1,
  },
  ...["failed", "snoozed", "released", "discarded", "cancelled"].map((outcome) => ({
    what: `end as ${outcome} by advance`,
    act: async ({ sql }: Rig, late: ClaimedJob, worker: number) =>
      (
        await advance(sql, worker, {
          rest: [{ lease: late.lease_id, id: late.id, outcome, delay_ms: 0, reason: "stale" }],
        })
      ).refused.length,
    refusal: 1,
  })),
];

/** Where the job stands when the late worker comes. */
const SITUATIONS: readonly [string, (rig: Rig, type: string) => Promise<unknown>][] = [
  ["waits again", async () => {}],
  ["is with another worker", ({ take }, type) => take(type, { worker: "heir", seconds: 86_400 })],
  [
    "was completed by another worker",
    async ({ complete, take }, type) => complete(await take(type, { worker: "heir" }), "fresh"),
  ],
];

describeOnEachServer("the fence", (context) => {
  let worker = 0;
  before(async () => {
    worker = await registerWorker(context.db.sql, "late");
  });
  beforeEach(() => rigOf(context.db).clear());

  /** All that is known of the job, and of every lease. */
  async function everything(id: string): Promise<unknown> {
    const [row] = await context.db.sql`
      select (select to_jsonb(job) from public.job_queue as job where id = ${id}) as job,
        (select jsonb_agg(run order by run.lease_id) from queue.runs as run where job_id = ${id}) as runs,
        (select jsonb_agg(lease order by lease.id) from queue.leases as lease) as leases,
        (select count(*) from queue.dead_letters) as dead,
        (select jsonb_agg(news) from queue.progress as news where job_id = ${id}) as progress`;
    return { ...only(row) };
  }

  for (const [situation, arrange] of SITUATIONS) {
    for (const { what, act, refusal } of ATTEMPTS) {
      it(`while the job ${situation}, the late worker can't ${what}`, async () => {
        const rig = rigOf(context.db);
        const type = `${situation} ${what}`.replaceAll(" ", "-");
        const late = await rig.start(type, {}, { worker: "late", seconds: 10 });
        await context.db.advance(11_000);
        await rig.sql`select public.cleanup_stuck_jobs()`;
        await arrange(rig, type);
        const before = await everything(late.id);

        const answer = await act(rig, late, worker);

        assert.deepEqual(answer, refusal);
        assert.deepEqual(await everything(late.id), before);
      });
    }
  }

  it("a lease that expired is still its worker's until somebody takes the job back", async () => {
    const rig = rigOf(context.db);
    const job = await rig.start("in-time", {}, { worker: "late", seconds: 10 });
    await context.db.advance(600_000);

    assert.equal(await rig.complete(job, "in time"), true);
  });

  it("a lease is never used twice, not even by the same worker for the same job", async () => {
    const rig = rigOf(context.db);
    const first = await rig.start("aba", {}, { worker: "late" });
    await rig.settle(first, { outcome: "released" });
    const second = await rig.take("aba", { worker: "late" });

    assert.equal(second.attempt, first.attempt, "the attempt is no fence");
    assert.ok(BigInt(second.lease_id) > BigInt(first.lease_id));
    assert.equal(await rig.complete(first, "stale"), false);
    assert.equal(await rig.complete(second, "fresh"), true);
  });

  it("a lease of another worker's batch gives no right to a job outside it", async () => {
    const rig = rigOf(context.db);
    const [mine, theirs] = [await rig.start("mine"), await rig.start("theirs")];

    assert.equal(await rig.complete({ id: theirs.id, lease_id: mine.lease_id }), false);
    assert.equal(
      await rig.settle({ id: theirs.id, lease_id: mine.lease_id }, { outcome: "discarded" }),
      null,
    );
    assert.equal(await rig.status(theirs.id), "processing");
  });
});

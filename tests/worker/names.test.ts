import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  type EnqueuedJob,
  implement,
  type Queue,
  silentLogger,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { recording, type Sent } from "./recording-sql.ts";
import { withWorker } from "./rig.ts";

/** So long a sleep that only a wake-up can explain a quick start. */
const HOUR = 3_600_000;
/** After so long without a claim a worker sleeps. */
const QUIET_MS = 350;

/** Resolves when the worker has not looked for work for a while. */
async function asleep(sent: readonly Sent[]): Promise<void> {
  let looks = -1;
  let since = 0;
  await eventually(() => {
    const now = sent.filter(({ text }) => text.includes("queue.advance")).length;
    if (now !== looks) [looks, since] = [now, performance.now()];
    return performance.now() - since > QUIET_MS;
  });
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

describeOnEachServer(
  "a worker beside names that are new",
  (context) => {
    /** Starts a transaction that makes something and stays open until the function it answers is called. */
    async function hold(make: string): Promise<() => Promise<void>> {
      const session = context.db.connect({ max: 1 });
      await session`begin`;
      await session.unsafe(make);
      return async () => {
        await session`commit`;
        await session.end();
      };
    }

    it("starts while an open transaction makes a type of it, works on the others, and on that type soon after", async () => {
      const [held, other] = [defineJob("start.held"), defineJob("start.other")];
      const release = await hold("select public.enqueue_job('start.held', '\"theirs\"')");
      const seen: unknown[] = [];

      await withWorker(
        context.db,
        [
          implement(held, ({ input }) => void seen.push(input)),
          implement(other, ({ input }) => input),
        ],
        async ({ queue, seen: events }) => {
          const job = await queue.enqueue(other, "mine");
          assert.equal(await job.result(), "mine");
          const late = await queue.enqueue(held, "ours");
          assert.equal((await queue.explain(late)).status, "pending");
          await release();
          await late.result();
          await events("completed", 3);
          assert.deepEqual(seen.toSorted(), ["ours", "theirs"]);
        },
        { pollIntervalMs: HOUR },
      );
    });

    it("works on that type soon after a rollback too", async () => {
      const job = defineJob("start.undone");
      const session = context.db.connect({ max: 1 });
      await session`begin`;
      await session`select public.enqueue_job('start.undone')`;

      await withWorker(
        context.db,
        [implement(job, () => "done")],
        async ({ queue }) => {
          const late = await queue.enqueue(job, {});
          await session`rollback`;
          assert.equal(await late.result(), "done");
        },
        { pollIntervalMs: HOUR },
      );
      await session.end();
    });

    it("serves one tenant, or a queue of its own, that an open transaction is making", async () => {
      const job = defineJob("scope.job", { queue: "scope.queue" });
      await context.db.sql`select queue.intern_type('scope.job')`;
      const release = await hold(
        "select public.enqueue_job('scope.other', p_queue => 'scope.queue', p_tenant_id => 'scope.tenant')",
      );

      await withWorker(
        context.db,
        [implement(job, ({ tenantId }) => tenantId)],
        async ({ queue }) => {
          const ours = await queue.enqueue(job, {}, { tenantId: "scope.tenant" });
          const others = await queue.enqueue(job, {}, { tenantId: "scope.none" });
          await release();
          assert.equal(await ours.result(), "scope.tenant");
          assert.equal((await queue.get(others)).status, "pending");
        },
        { pollIntervalMs: HOUR, tenantId: "scope.tenant", queues: { "scope.queue": 2 } },
      );
    });

    it("runs the first job of everything as soon as a second one", async () => {
      const jobs = Array.from({ length: 9 }, (_, n) => defineJob(`first.${n}`));
      const job = (n: number) => {
        const found = jobs[n];
        assert.ok(found);
        return found;
      };
      const firsts: readonly ((queue: Queue, n: number) => Promise<EnqueuedJob>)[] = [
        (queue, n) => queue.enqueue(job(n), {}),
        (queue, n) => queue.enqueue(job(n), {}, { queue: `first.queue.${n}` }),
        (queue, n) => queue.enqueue(job(n), {}, { tenantId: `first.tenant.${n}` }),
        async (queue, n) => {
          const [one] = await queue.enqueueMany(job(n), [{}, {}]);
          assert.ok(one);
          return one;
        },
        (queue, n) => queue.flow((flow) => flow.add(job(n), {})),
        (queue, n) => queue.enqueue(job(n), {}, { idempotencyKey: "k" }),
        (queue, n) => context.db.sql.begin((tx) => queue.with(tx).enqueue(job(n), {})),
        (queue) => queue.enqueue(job(0), {}, { queue: "first.queue.late" }),
        (queue) => queue.enqueue(job(0), {}, { tenantId: "first.tenant.late" }),
      ];
      const times: { first: number[]; second: number[] } = { first: [], second: [] };
      const sql = connect(context.db.url);
      const recorded = recording(sql);
      const worker = createWorker({
        sql: recorded.sql,
        handlers: jobs.map((one) => implement(one, () => performance.now())),
        queues: { "first.named": 1, "*": 5 },
        pollIntervalMs: HOUR,
        logger: silentLogger,
      });
      const queue = createQueue({ sql });
      const timed = async (enqueue: () => Promise<EnqueuedJob>): Promise<number> => {
        await asleep(recorded.sent);
        const before = performance.now();
        const made = await enqueue();
        return Number(await made.result({ timeoutMs: 10_000 })) - before;
      };
      try {
        await worker.start();
        for (const [n, first] of firsts.entries()) {
          times.first.push(await timed(() => first(queue, n)));
          times.second.push(await timed(() => queue.enqueue(job(n), {})));
        }
      } finally {
        await worker.stop();
        await sql.close();
      }
      const [first, second] = [median(times.first), median(times.second)];
      assert.ok(first < second + 50, `first ${first} ms, second ${second} ms`);
    });
  },
  { pooler: false, atOnce: "versions" },
);

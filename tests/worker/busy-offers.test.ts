import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  implement,
  silentLogger,
  type WorkerEvent,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate } from "./rig.ts";

/** Where `arm_bells` takes the lease that is accepted. */
const ACCEPTED = 5;

describeOnEachServer(
  "a job that is brought while somebody else holds its lease locked",
  (context) => {
    it("is not taken for lost, and is kept once it is free", async () => {
      const task = defineJob("held");
      const inner = connect(context.db.url);
      const queue = createQueue({ sql: inner });
      const free = gate();
      const isHeld = gate();
      const answered = gate();
      let holding: Promise<unknown> | undefined;
      const sql: Sql = {
        ...inner,
        async query(text, params, options) {
          const isFirst = text.includes("arm_bells") && params?.[ACCEPTED] != null && !holding;
          if (!isFirst) return inner.query(text, params, options);
          holding = context.db.superSql.begin(async (tx) => {
            await tx`select from queue.leases for update`;
            isHeld.open();
            await free.opened;
          });
          await isHeld.opened;
          const rows = await inner.query(text, params, options);
          answered.open();
          return rows;
        },
      };
      const events: WorkerEvent[] = [];
      const finish = gate();
      const runs: string[] = [];
      const worker = createWorker({
        sql,
        handlers: [
          implement(task, async ({ id, input }) => {
            runs.push(id);
            if (input === "brought") await finish.opened;
          }),
        ],
        pollIntervalMs: 3_600_000,
        logger: silentLogger,
        onEvent: (event) => events.push(event),
      });
      try {
        await worker.start();
        // The first one makes the queue known.
        await (await queue.enqueue(task, "first")).result();
        await eventually(async () => {
          const bells = await context.db.superSql<{ channel: string | null; worker_id: number }[]>`
            select channel, worker_id from queue.bells order by channel nulls last`;
          const [bell] = bells;
          if (bell?.channel === null) {
            await context.db.sql`select pg_notify('millrace', ${`w:${bell.worker_id}`})`;
          }
          return bell !== undefined && bell.channel !== null;
        });
        const job = await queue.enqueue(task, "brought");
        await answered.opened;
        await eventually(() => runs.includes(job.id));
        free.open();
        await holding;
        // It is extended now, as any other.
        await eventually(async () => {
          const rows = await context.db.superSql`
            select from queue.leases
             where ${job.id}::bigint = any (job_ids) and not is_offered and expires_at > queue.clock() + interval '10 s'`;
          return rows.length === 1;
        });
        finish.open();
        await job.result();

        assert.deepEqual(
          runs.filter((id) => id === job.id),
          [job.id],
        );
        assert.equal(
          events.some(({ kind }) => kind === "lost"),
          false,
        );
      } finally {
        free.open();
        finish.open();
        await worker.stop();
        await inner.close();
      }
    });
  },
  { pooler: false },
);

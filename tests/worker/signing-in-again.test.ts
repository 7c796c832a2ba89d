import { it } from "node:test";
import { defineJob, implement } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

describeOnEachServer("a worker whose row is gone and that has to sign in again", (context) => {
  it("can be stopped although the database does not answer that", async () => {
    const name = crypto.randomUUID();
    const handler = implement(defineJob("any"), () => undefined);
    await withWorker(
      context.db,
      [handler],
      async ({ worker }) => {
        await context.db.superSql`delete from queue.workers where name = ${name}`;
        await context.db.superSql.begin(async (tx) => {
          // Nobody else can have the name before this has ended.
          await tx`
            insert into queue.workers (name, started_at, seen_at, is_registered)
            values (${name}, now(), now(), true)`;
          await eventually(async () => {
            const waiting = await context.db.superSql`
              select from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'
                 and query like '%register_worker%'`;
            return waiting.length > 0;
          });
          void worker.stop();
          await eventually(() => worker.state === "stopped", { timeoutMs: 20_000 });
        });
      },
      // The first sign of life comes after a second.
      { name, random: () => 0.99 },
    );
  });
});

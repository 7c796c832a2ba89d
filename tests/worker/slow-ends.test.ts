import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { defineJob, implement } from "../../src/index.ts";
import { fastClock } from "../core/fast-clock.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate, withWorker } from "./rig.ts";

/** Ends that the database is too slow for, or refuses for what others do, harm nobody but themselves. */
describeOnEachServer(
  "an end that makes its statement fail",
  (context) => {
    let url = "";
    before(async () => {
      url = await context.db.loginUrl("millrace_worker");
      await context.db.superSql.unsafe(
        `alter role ${new URL(url).username} in database ${context.db.name} set statement_timeout = '400ms'`,
      );
      // What is to happen at the ends of which job: the tests write it here.
      await context.db
        .superSql`create table public.plague (job_id bigint primary key, sqlstate text)`;
      await context.db.superSql`
      create function public.spoil() returns trigger language plpgsql security definer set search_path = '' as $$
      declare
        v_state text := (select sqlstate from public.plague where job_id = new.job_id);
      begin
        if v_state = '57014' then
          perform pg_catalog.pg_sleep(5);
        elsif v_state is not null then
          raise exception 'spoiled' using errcode = v_state;
        end if;
        return new;
      end $$`;
      await context.db.superSql`
      create trigger spoil before insert on queue.runs for each row execute function public.spoil()`;
    });
    after(async () => {
      await context.db.superSql`drop trigger spoil on queue.runs`;
    });

    for (const sqlstate of ["57014", "40P01"]) {
      it(`by ${sqlstate} keeps no other from being written and no job from running, and is written when it can be`, async () => {
        const finish = gate();
        const runs = new Map<string, number>();
        const task = implement(
          defineJob(`task-${sqlstate}`, { maxRetries: 0 }),
          async ({ id, input }) => {
            runs.set(id, (runs.get(id) ?? 0) + 1);
            if (input !== "late") await finish.opened;
            return input;
          },
        );
        await withWorker(
          context.db,
          [task],
          async ({ events, queue, seen }) => {
            const jobs = await queue.enqueueMany(task.job, Array(40).fill("good"));
            const bad = jobs[17];
            assert.ok(bad);
            await context.db.superSql`insert into public.plague values (${bad.id}, ${sqlstate})`;
            await seen("started", 40);
            finish.open();

            await seen("completed", 39);
            const late = await queue.enqueueMany(task.job, Array(10).fill("late"));
            await Promise.all(late.map((job) => job.result()));
            const [between] = await context.db
              .sql`select queue.status_of(${bad.id})::text as status`;
            await context.db.superSql`delete from public.plague`;

            assert.equal(await bad.result(), "good");
            assert.deepEqual(between, { status: "processing" });
            assert.deepEqual([...runs.values()], Array(50).fill(1));
            await seen("completed", 50);
            const kinds = new Set(events.map(({ kind }) => kind));
            for (const kind of ["disconnected", "lost", "unconfirmed", "failed"] as const) {
              assert.equal(kinds.has(kind), false, kind);
            }
          },
          { url, leaseMs: 30_000, concurrency: 50, clock: fastClock(5) },
        );
      });
    }
  },
  { atOnce: "versions" },
);

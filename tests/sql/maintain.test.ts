/** queue.maintain: each part of it for itself, in slices, around what somebody holds. */
import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { type Maintained, maintainAll } from "../support/maintenance.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;

interface Problem {
  readonly code: string;
  readonly part?: string;
  readonly message: string;
}

describeOnEachServer("maintenance of which a part fails", (context) => {
  beforeEach(() => rigOf(context.db).clear());

  const maintain = (): Promise<Maintained> => maintainAll(context.db.sql);

  async function problems(): Promise<Problem[]> {
    const [row] = await context.db.sql<{ problems: Problem[] }[]>`
      select public.queue_health() -> 'problems' as problems`;
    return only(row).problems.filter(({ code }) => code === "maintenance_failing");
  }

  async function noted(part: string): Promise<number> {
    const [row] = await context.db.sql<{ n: number }[]>`
      select count(*)::integer as n from queue.audit
      where action = 'maintenance_failed' and detail ->> 'part' = ${part}`;
    return only(row).n;
  }

  /** What makes a part fail, and not by its own fault; and what mends it. */
  const FAULTS: readonly { part: string; fault: string; mended: string }[] = [
    {
      part: "partitions",
      fault: `
        select setval('queue.job_ids', (select first_id from queue.partitions order by number offset 1 limit 1));
        do $$ begin execute format('create table queue.jobs_p%s ()', (select max(number) + 1 from queue.partitions)); end $$`,
      mended: `
        do $$ begin execute format('drop table queue.jobs_p%s', (select max(number) + 1 from queue.partitions)); end $$`,
    },
    ...[
      { part: "rescue", table: "leases" },
      { part: "promote", table: "scheduled" },
      { part: "bells", table: "bells" },
      { part: "workers", table: "workers" },
      { part: "dead_letters", table: "dead_letters" },
    ].map(({ part, table }) => ({
      part,
      fault: `create trigger of_the_application before delete on queue.${table} for each row execute function public.refuse()`,
      mended: `drop trigger of_the_application on queue.${table}`,
    })),
  ];

  /** One thing to do for each part; resolves to how much of it is left. */
  async function fill(): Promise<() => Promise<Record<string, number>>> {
    const { bury, enqueue, start, inMs, sql } = rigOf(context.db);
    const old = await bury("old");
    await sql`update queue.dead_letters set failed_at = failed_at - interval '100 days' where job_id = ${old}`;
    const lost = await start("lost", {}, { seconds: 1 });
    const due = await enqueue("due", { scheduledAt: await inMs(1000) });
    await sql`insert into queue.workers (name, started_at, seen_at, is_registered)
      values (${`gone ${lost.id}`}, queue.clock(), queue.clock() - interval '9 days', false)`;
    await sql`insert into queue.bells (queue_id, worker_id)
      select 1, id from queue.workers where name = ${`gone ${lost.id}`}`;
    await context.db.advance(2000);
    return async () => {
      const [row] = await sql`select
        (select count(*) from queue.leases where ${lost.id}::bigint = any (job_ids))::integer as rescue,
        (select count(*) from queue.scheduled where id = ${due})::integer as promote,
        (select count(*) from queue.bells)::integer as bells,
        (select count(*) from queue.workers where name = ${`gone ${lost.id}`})::integer as workers,
        (select count(*) from queue.dead_letters where job_id = ${old})::integer as dead_letters`;
      return { ...only(row) } as Record<string, number>;
    };
  }

  for (const { part, fault, mended } of FAULTS) {
    it(`does all others: ${part}`, async () => {
      const { sql } = context.db;
      await sql.unsafe(`
        create or replace function public.refuse() returns trigger language plpgsql as
        $f$ begin raise exception 'the application says no' using errcode = '23503'; end $f$`);
      const left = await fill();
      await sql.unsafe(fault);

      const first = await maintain();
      const remaining = await left();
      const told = await problems();
      for (let n = 0; n < 3; n += 1) {
        await context.db.advance(60 * MINUTE);
        await maintain();
      }
      const within = await noted(part);
      await context.db.advance(DAY);
      await maintain();
      const later = await noted(part);
      await sql.unsafe(mended);
      const after = await maintain();

      assert.deepEqual(
        first.failed.map((failure) => failure.part),
        [part],
      );
      assert.deepEqual(
        Object.keys(remaining).filter((key) => remaining[key] !== 0),
        part === "partitions" ? [] : [part],
      );
      assert.deepEqual(
        told.map((problem) => problem.part),
        [part],
      );
      assert.match(
        only(told[0]).message,
        new RegExp(`part ${part} of maintenance has failed since .*`),
      );
      assert.deepEqual([within, later], [1, 2]);
      assert.deepEqual([after.failed, await problems()], [[], []]);
      assert.deepEqual(
        Object.values(await left()).filter((n) => n !== 0),
        [],
      );
    });
  }

  it("leaves what somebody holds, also workers and hand-overs, to the next call", async (t) => {
    const { sql } = context.db;
    const left = await fill();
    await sql`insert into queue.handovers (from_lease_id, job_id) values (1, 1)`;
    const holder = context.db.connect({ max: 1 });
    t.after(() => holder.end());
    await holder`begin`;
    await holder`select from queue.workers where name like 'gone%' for update`;
    await holder`select from queue.handovers for update`;
    await holder`select from queue.dead_letters for update`;
    await holder`select from queue.leases for update`;
    await holder`select from queue.scheduled for update`;

    const beside = await maintain();
    await holder`rollback`;
    await maintain();

    const [row] = await sql`select count(*)::integer as n from queue.handovers`;
    assert.deepEqual(beside.failed, []);
    assert.deepEqual([Object.values(await left()).filter((n) => n !== 0), row?.["n"]], [[], 0]);
  });

  it("health says that ids run out long before they do", async () => {
    const { sql } = context.db;
    const codes = async (): Promise<string[]> => {
      const [row] = await sql<{ codes: string[] }[]>`
        select array(select jsonb_array_elements(public.queue_health() -> 'problems') ->> 'code') as codes`;
      return only(row).codes.filter((code) => code === "ids_running_out");
    };
    await maintain();
    const first = await codes();
    await sql`select setval('queue.job_ids', (select first_id from queue.partitions order by number desc offset 1 limit 1))`;
    const late = await codes();
    await maintain();

    assert.deepEqual([first, late, await codes()], [[], ["ids_running_out"], []]);
  });

  it("a span holds more ids than one call can use up", async () => {
    await assert.rejects(context.db.sql`update queue.settings set partition_span = 100000`, {
      code: "23514",
    });
  });

  it("expires dead letters in slices, of which a call makes several", async () => {
    const { sql } = context.db;
    const id = await rigOf(context.db).bury("many");
    await sql`update queue.dead_letters set failed_at = failed_at - interval '100 days'`;
    await sql`
      insert into queue.dead_letters
      select (jsonb_populate_record(dead, jsonb_build_object('job_id', 1000000 + n))).*
      from queue.dead_letters as dead, generate_series(1, 1200) as n where dead.job_id = ${id}`;

    let [calls, expired] = [0, 0];
    for (let last = -1; last !== 0; calls += 1) {
      last = (await maintain()).dead_letters_expired;
      expired += last;
    }

    assert.equal(expired, 1201);
    assert.ok(calls <= 4, `${calls} calls`);
  });
});

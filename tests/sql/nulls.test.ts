/** "A null stands for the default wherever one is told", as docs/sql-api.md says: clients send null for what they leave out. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";

describeOnEachServer("a null where there is a default", (context) => {
  it("a job is what it is without the parameter", async () => {
    const { sql } = context.db;
    await sql`
      select public.enqueue_job('null.job', null, null, null, null, null, null, null, null, null)`;
    await sql`select public.enqueue_job('null.job')`;

    const jobs = await sql`
      select to_jsonb(job) - '{id,created_at,scheduled_at}'::text[] as job from public.job_queue as job`;

    assert.equal(jobs.length, 2);
    assert.deepEqual(jobs[0], jobs[1]);
  });

  it("a redrive and a purge take a thousand dead letters, not all", async () => {
    const { sql } = context.db;
    await sql`
      select public.enqueue_jobs((
        select jsonb_agg(jsonb_build_object('type', 'null.dead', 'max_retries', 0)) from generate_series(1, 2003)))`;
    for (const _ of [1, 2, 3]) {
      await sql`
        select public.fail_job(job.id, null, null, null, job.lease_id)
        from (select * from public.get_next_job('w', '{null.dead}', 1000)) as job`;
    }

    const redriven = await sql`
      select id from public.redrive_jobs(null, 'null.dead', null, null, null, null, null, null, null)`;
    const [purged] = await sql`
      select public.purge_jobs(null, 'null.dead', null, null, null, null, null, null) as count`;
    const [left] = await sql`
      select public.purge_jobs(p_type => 'null.dead', p_dry_run => true, p_limit => 5000) as count`;

    assert.deepEqual([redriven.length, purged?.["count"], left?.["count"]], [1_000, 1_000, 3]);
  });

  it("a route is what it is without the parameter", async () => {
    const { sql } = context.db;
    await sql`select public.set_job_route('null.route', 'some-function', null, null, null, null, null, null, null, null)`;
    await sql`select public.set_job_route('bare.route', 'some-function')`;

    const routes = await sql`
      select to_jsonb(route) - '{id,type_name,created_at,updated_at}'::text[] as route from queue.routes as route
      where type_name in ('null.route', 'bare.route') and tenants is null order by id`;

    assert.equal(routes.length, 2);
    assert.deepEqual(routes[0], routes[1]);
  });
});

import assert from "node:assert/strict";
import type { TestSql } from "../support/connect.ts";
import { byId, type Job, type Model, WAITING } from "./model.ts";
import type { World } from "./world.ts";

/** All that the database knows about jobs, in one look. */
interface Picture {
  /** id, status of the view, status of status_of, status of explain_job (of the newest job; slow), attempts. */
  readonly jobs: readonly (readonly [string, string, string, string, number])[];
  /** id, table, due time, attempt, crashes, open parents. */
  readonly tokens: readonly (readonly [string, string, number, number, number, number | null])[];
  /** id, expiry, crashes, job ids, attempts, whether it is only offered. */
  readonly leases: readonly (readonly [string, number, number, string[], number[], boolean])[];
  /** job, outcome, to, attempt, from, has an error. */
  readonly runs: readonly (readonly [string, string, string, number, string | null, boolean])[];
  /** id, attempts, redrives, errors. */
  readonly dead: readonly (readonly [string, number, number, number])[];
  readonly edges: readonly (readonly [string, string, boolean])[];
  readonly cancellations: readonly string[];
  /** Jobs that do not stand in exactly one place. */
  readonly misplaced: readonly string[];
  /** Jobs whose status history has a step that does not begin where the one before ended, or ends elsewhere than they stand. */
  readonly torn: readonly string[];
  /** Jobs that hold the result of another. */
  readonly foreign: readonly string[];
}

const LOOK = `
with live as (
  select held.job_id from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
  where not exists (select from queue.runs as run where run.job_id = held.job_id and run.lease_id = lease.id)
),
place as (
  select job.id,
    (select count(*) from queue.ready where ready.id = job.id)
    + (select count(*) from queue.scheduled where scheduled.id = job.id)
    + (select count(*) from queue.waiting where waiting.id = job.id)
    + (select count(*) from live where live.job_id = job.id)
    + (select count(*) from (
        select run.to_status from queue.runs as run where run.job_id = job.id order by run.lease_id desc limit 1
      ) as last where last.to_status in ('completed', 'failed', 'cancelled')) as n
  from queue.jobs as job
),
job as materialized (
  select job.id, job.status, job.attempts, lead(job.id) over (order by job.id) is null as is_newest
  from public.job_queue as job
),
step as materialized (
  select history.job_id as id, history.from_status, history.to_status,
    lag(history.to_status) over trail as before, lead(history.to_status) over trail is null as is_last
  from public.job_status_history as history
  window trail as (partition by history.job_id order by history.seq, history.part)
),
us as (select 1000000 as per_second)
select json_build_object(
  'jobs', (select coalesce(json_agg(json_build_array(job.id::text, job.status, queue.status_of(job.id),
    case when job.is_newest then public.explain_job(job.id) ->> 'status' else job.status end, job.attempts) order by job.id), '[]') from job),
  'tokens', (select coalesce(json_agg(json_build_array(token.id::text, token.place,
      (extract(epoch from token.at) * us.per_second)::bigint, token.attempt, token.crashes, token.open_parents)
      order by token.id), '[]')
    from us, (
      select id, 'pending' as place, at, attempt, crashes, null::integer as open_parents from queue.ready
      union all select id, 'scheduled', at, attempt, crashes, null from queue.scheduled
      union all select id, 'blocked', at, attempt, crashes, open_parents from queue.waiting
    ) as token),
  'leases', (select coalesce(json_agg(json_build_array(lease.id::text,
      (extract(epoch from lease.expires_at) * us.per_second)::bigint, lease.crashes,
      lease.job_ids::text[], lease.attempts, lease.is_offered) order by lease.id), '[]') from us, queue.leases as lease),
  'runs', (select coalesce(json_agg(json_build_array(run.job_id::text, run.outcome, run.to_status, run.attempt,
      run.from_status, run.error is not null) order by run.job_id, run.lease_id), '[]') from queue.runs as run),
  'dead', (select coalesce(json_agg(json_build_array(dead.id::text, dead.attempts, dead.redrive_count,
      jsonb_array_length(dead.errors)) order by dead.id), '[]') from public.job_dead_letter as dead),
  'edges', (select coalesce(json_agg(json_build_array(edge.parent_id::text, edge.child_id::text, edge.run_anyway)
      order by edge.parent_id, edge.child_id), '[]') from queue.dependencies as edge),
  'cancellations', (select coalesce(json_agg(request.job_id::text order by request.job_id), '[]')
    from queue.cancellations as request),
  'misplaced', (select coalesce(json_agg(place.id::text), '[]') from place where place.n <> 1),
  'torn', (select coalesce(json_agg(distinct step.id::text), '[]') from step join job on job.id = step.id
    where step.from_status is distinct from step.before or (step.is_last and step.to_status <> job.status)),
  'foreign', (select coalesce(json_agg(run.job_id::text), '[]') from queue.runs as run
    join queue.jobs as fact on fact.id = run.job_id where run.result ->> 'nonce' <> fact.payload ->> 'nonce')
) as picture`;

/** Planning takes longer than running, so it is done once. */
export async function prepareLook(sql: TestSql): Promise<void> {
  await sql.unsafe(`prepare look as ${LOOK}`);
}

/** Compares everything there is; adopts the random part of retry delays once it is seen to lie within its bounds. */
export async function compare(model: Model, world: World): Promise<void> {
  const [row] = await world.sql.unsafe<{ picture: Picture }[]>("execute look");
  assert.ok(row);
  const { picture } = row;
  adoptDelays(model, picture);

  assert.deepEqual(picture, expectation(model));
}

function adoptDelays(model: Model, picture: Picture): void {
  for (const [id, , at] of picture.tokens) {
    const job = model.jobs.get(id);
    if (job?.atLeast === undefined) continue;
    assert.ok(
      at >= job.atLeast && at <= job.at,
      `retry of ${id} is due at ${at}, not between ${job.atLeast} and ${job.at}`,
    );
    job.at = at;
    job.atLeast = undefined;
  }
}

function expectation(model: Model): Picture {
  const jobs = [...model.jobs.values()].sort((left, right) => byId(left.id, right.id));
  return {
    jobs: jobs.map((job) => [job.id, job.status, job.status, job.status, job.attempts]),
    tokens: jobs.filter((job) => WAITING.includes(job.status)).map((job) => token(model, job)),
    leases: [...model.leases.values()]
      .sort((left, right) => byId(left.id, right.id))
      .map((lease) => [
        lease.id,
        lease.expiresAt,
        lease.crashes,
        [...lease.held.keys()],
        [...lease.held.values()],
        lease.isOffered,
      ]),
    runs: jobs.flatMap((job) =>
      job.runs.map(
        (run) => [job.id, run.outcome, run.to, run.attempt, run.from, run.hasError] as const,
      ),
    ),
    dead: [...model.deadLetters.values()]
      .sort((left, right) => byId(left.id, right.id))
      .map((dead) => [dead.id, dead.attempts, dead.redrives, dead.errors]),
    edges: model.edges
      .map((edge) => [edge.parent, edge.child, edge.runAnyway] as const)
      .sort((left, right) => byId(left[0], right[0]) || byId(left[1], right[1])),
    cancellations: jobs.filter((job) => job.cancelRequested).map((job) => job.id),
    misplaced: [],
    torn: [],
    foreign: [],
  };
}

function token(model: Model, job: Job): Picture["tokens"][number] {
  const openParents = job.status === "blocked" ? model.openParents(job.id) : null;
  return [job.id, job.status, job.at, job.attempts, job.crashes, openParents];
}

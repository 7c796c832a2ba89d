import type { TestSql } from "../support/connect.ts";
import type { Books } from "./books.ts";
import { count } from "./count.ts";
import type { Fleet } from "./fleet.ts";
import type { Servers } from "./servers.ts";

/** A time in which a worker, or everybody, could not reach the database. */
export interface CutOff {
  readonly member: string | undefined;
  readonly from: number;
  readonly to: number;
}

/** What was done to all that took part. */
export interface Past {
  readonly fleet: Pick<Fleet, "absences" | "members">;
  readonly servers: Pick<Servers, "failovers" | "crashes">;
  readonly cutOffs: readonly CutOff[];
  readonly leaseMs: number;
}

interface Ends {
  readonly attemptsForgotten: number;
  readonly chargedUnseen: number;
  readonly faults: readonly string[];
}

interface Found {
  readonly id: string;
  readonly detail: string;
}

/** A run with what the next one says of its charge. */
interface Run {
  readonly id: string;
  readonly lease: string;
  readonly outcome: string;
  readonly worker: string | null;
  readonly is_charged: boolean;
  readonly started: number;
  readonly finished: number;
}

/** A crash may be noticed a little before it is noted. */
const SLACK_MS = 1_000;

/** How attempts and jobs ended, against what handlers saw and what plans say. */
export async function findWrongEnds(
  sql: TestSql,
  { sightings, blocks }: Books,
  { fleet: { absences, members }, servers: { crashes, failovers }, cutOffs, leaseMs }: Past,
): Promise<Ends> {
  const runs = await sql<Run[]>`
    select run.job_id::text as id, run.lease_id::text as lease, run.outcome::text, worker.name as worker,
      (date_part('epoch', run.started_at) * 1000)::double precision as started,
      (date_part('epoch', run.finished_at) * 1000)::double precision as finished,
      run.to_status = 'failed' or coalesce(lead(run.attempt) over trail, token.attempt + 1, run.attempt + 1) > run.attempt as is_charged
    from queue.runs as run
    left join queue.workers as worker on worker.id = run.worker_id
    left join (
      select id, attempt from queue.ready union all select id, attempt from queue.scheduled
    ) as token on token.id = run.job_id
    where run.worker_id is not null
    window trail as (partition by run.job_id order by run.lease_id)`;
  const recorded = new Set(runs.map(({ id, lease }) => `${id}/${lease}`));
  const begun = new Set(sightings.map(({ id, lease }) => `${id}/${lease}`));
  const there = new Set(
    (await sql<{ id: string }[]>`select id::text from queue.jobs`).map(({ id }) => id),
  );

  const unrecorded = sightings.filter(
    ({ id, lease }) => there.has(id) && !recorded.has(`${id}/${lease}`),
  );
  const lastCrash = Math.max(0, ...crashes);
  const untold = unrecorded.filter(({ at }) => at > lastCrash + SLACK_MS);

  const unseen = runs.filter(({ id, lease }) => !begun.has(`${id}/${lease}`));
  // What was cancelled need not have begun.
  const endsUnbegun = new Set(["lost", "released", "cancelled"]);
  const unbegun = unseen.filter(({ outcome }) => !endsUnbegun.has(outcome));
  const charged = unseen.filter(({ outcome, is_charged }) => outcome === "lost" && is_charged);
  const plain = new Set(members.filter(({ way }) => way === "sql").map(({ name }) => name));
  const away = [...absences, ...blocks];
  // What a worker had begun that died, stood still or was cut off for much of its lease nobody knows; and who has nothing but SQL
  // can't tell that an answer never came.
  const isExcused = ({ worker, started, finished }: Run): boolean => {
    const [member = "", pid = ""] = (worker ?? "").split(" ");
    const wasAway = away.some(
      (time) =>
        time.member === member &&
        time.pid === Number(pid) &&
        time.from < finished &&
        time.to > started,
    );
    const cutOffMs = cutOffs
      .filter((time) => time.member === undefined || time.member === member)
      .reduce((sum, { from, to }) => {
        return sum + Math.max(0, Math.min(to, finished) - Math.max(from, started));
      }, 0);
    return plain.has(member) || wasAway || cutOffMs > leaseMs / 2;
  };
  const chargedAlive = charged.filter((run) => !isExcused(run));
  // A job that a worker has fetched begins under a lease that its server took with it, until the worker hears that the lease is lost.
  const promoted = await sql<{ first: string }[]>`
    select first_lease_id::text as first from queue.generations where cause = 'promotion'`;
  const isOfLostLease = ({ id, lease }: Books["sightings"][number]): boolean =>
    !recorded.has(`${id}/${lease}`) && promoted.some(({ first }) => BigInt(lease) < BigInt(first));
  const remembered = sightings.filter(
    (seen) =>
      !failovers.some(
        ({ knownUntil, at }) =>
          seen.at > knownUntil && seen.at < (isOfLostLease(seen) ? at + leaseMs : at),
      ),
  );

  const nameRun = ({ id, lease, outcome, worker, started, finished }: Run): string =>
    `job ${id}, ${outcome}, lease ${lease} of ${worker}, ${new Date(started).toISOString()} to ${new Date(finished).toISOString()}`;
  const name = ({ id, detail }: Found): string => `job ${id} (${detail})`;
  return {
    attemptsForgotten: unrecorded.length - untold.length,
    chargedUnseen: charged.length - chargedAlive.length,
    faults: [
      ...count(
        untold,
        "attempts that left no trace",
        ({ id, lease }) => `job ${id}, lease ${lease}`,
      ),
      ...count(unbegun, "ends of attempts that never began", nameRun),
      ...count(chargedAlive, "attempts charged that never began", nameRun),
      ...count(await endedTwice(sql), "jobs that ended twice", name),
      ...count(
        await wrongEffects(sql),
        "effects without their completion or the other way round",
        name,
      ),
      ...count(
        await wrongChildren(sql),
        "completions without their children or the other way round",
        name,
      ),
      ...count(await wrongDeadLetters(sql), "dead letters that are not the job's own fault", name),
      ...count(await tooManyAttempts(sql), "jobs with more attempts than they have", name),
      ...count(await begunTwice(sql, remembered), "jobs without retries that began twice", name),
    ],
  };
}

function endedTwice(sql: TestSql): Promise<Found[]> {
  return sql<Found[]>`
    select step.job_id::text as id, step.before || ' then ' || step.outcome as detail from (
      select run.job_id, run.outcome, lag(run.to_status) over (partition by run.job_id order by run.lease_id) as before
      from queue.runs as run
    ) as step
    where step.before in ('completed', 'failed', 'cancelled') and step.outcome <> 'redriven'`;
}

/** A row of the ledger if and only if the job completed, one, and with the job's own nonce. */
function wrongEffects(sql: TestSql): Promise<Found[]> {
  return sql<Found[]>`
    select coalesce(job.id, effect.job_id)::text as id,
      format('%s, %s rows by %s', coalesce(job.status, 'gone'), coalesce(effect.n, 0), effect.nonces) as detail
    from (select id, status, payload #>> '{who,nonce}' as nonce from public.job_queue where payload ->> 'end' = 'commit') as job
    full join (
      select job_id, count(*) as n, array_agg(nonce) as nonces from public.ledger group by job_id
    ) as effect on effect.job_id = job.id
    where job.id is null or coalesce(effect.n, 0) <> (job.status = 'completed')::integer
      or (effect.n = 1 and effect.nonces[1] <> job.nonce)`;
}

/** A parent that was forgotten by a failover may have gone on and enqueued some all the same. */
function wrongChildren(sql: TestSql): Promise<Found[]> {
  return sql<Found[]>`
    with job as materialized (
      select id, status, payload ->> 'end' as end, (payload ->> 'children')::integer as children,
        payload #>> '{who,nonce}' as nonce
      from public.job_queue
    ),
    child as (
      select split_part(nonce, '/', 1) as parent, count(*) as n from job where nonce like '%/%' group by 1
    )
    select job.id::text, format('%s by %s, %s of %s', job.status, job.end, coalesce(child.n, 0), job.children) as detail
    from job left join child on child.parent = job.nonce
    where job.nonce not like '%/%' and coalesce(child.n, 0) <> job.children
      and (job.status = 'completed' and job.end in ('commit', 'return') or job.end = 'commit' and child.n > 0)
`;
}

/** What failed was planned to, or lost its only attempt with its worker. */
function wrongDeadLetters(sql: TestSql): Promise<Found[]> {
  return sql<Found[]>`
    select coalesce(job.id, dead.id)::text as id, format('%s, %s retries: %s', job.status, job.max_retries, left(dead.last_error, 120)) as detail
    from public.job_queue as job full join public.job_dead_letter as dead on dead.id = job.id
    where (dead.id is not null) <> coalesce(job.status = 'failed', false)
      or (dead.last_error not like 'planned failure%' and job.max_retries > 0)`;
}

function tooManyAttempts(sql: TestSql): Promise<Found[]> {
  return sql<Found[]>`
    select run.job_id::text as id, format('%s of %s', max(run.attempt), job.max_retries + 1) as detail
    from queue.runs as run join queue.jobs as job on job.id = run.job_id
    group by run.job_id, job.max_retries having max(run.attempt) > job.max_retries + 1`;
}

/** Those that may run only once; what a standby that was behind knows nothing of is left out. */
async function begunTwice(sql: TestSql, sightings: Books["sightings"]): Promise<Found[]> {
  const jobs = await sql<{ id: string; nonce: string }[]>`
    select job.id::text, job.payload #>> '{who,nonce}' as nonce from queue.jobs as job
    where job.max_retries = 0 and job.payload ->> 'end' <> 'snooze'
      and not exists (select from queue.runs as run where run.job_id = job.id and run.outcome = 'redriven')`;
  const starts = new Map<string, number>();
  for (const { nonce } of sightings) starts.set(nonce, (starts.get(nonce) ?? 0) + 1);
  return jobs
    .filter(({ nonce }) => (starts.get(nonce) ?? 0) > 1)
    .map(({ id, nonce }) => ({ id, detail: `${nonce}, ${starts.get(nonce)} times` }));
}

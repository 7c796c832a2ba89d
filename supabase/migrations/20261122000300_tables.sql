-- The machine's tables. A job's facts are written once; what moves is a narrow token:
--   waiting (blocked) -> scheduled -> ready (pending) -> a lease (processing) -> runs (the attempt's end)
--
-- No foreign keys between facts and tokens: each would cost an index look-up and a row lock per job, and the
-- only writers are the functions of this schema.

create sequence queue.job_ids as bigint;
create sequence queue.lease_ids as bigint;
comment on sequence queue.job_ids is 'Ids of jobs. It jumps to the next partition''s first id about once a day.';
comment on sequence queue.lease_ids is
  'Ids of leases and of events in queue.runs. The fence: it only grows and, because of queue.ensure_generation, no lease''s id is ever used twice.';

create table queue.jobs (
  id bigint not null,
  created_at timestamptz not null,
  scheduled_at timestamptz,
  type_id integer not null,
  queue_id integer not null,
  tenant_id integer not null,
  born queue.job_status not null,
  max_retries smallint not null,
  priority smallint not null,
  payload jsonb not null,
  depends_on bigint[],
  options jsonb,
  constraint jobs_pkey primary key (id),
  constraint jobs_priority_known check (priority between 0 and 3),
  constraint jobs_max_retries_sane check (max_retries between 0 and 10000),
  constraint jobs_born_open check (born in ('blocked', 'scheduled', 'pending'))
) partition by range (id);
comment on table queue.jobs is 'The facts of each job, written once and never updated.';
comment on column queue.jobs.scheduled_at is 'When the caller wants it to run; null means at once.';
comment on column queue.jobs.born is 'The status it was enqueued with.';
comment on column queue.jobs.tenant_id is '0 when the job belongs to no tenant.';

create table queue.runs (
  job_id bigint not null,
  lease_id bigint not null,
  started_at timestamptz not null,
  finished_at timestamptz not null,
  worker_id integer,
  outcome queue.run_outcome not null,
  to_status queue.job_status not null,
  attempt smallint not null,
  from_status queue.job_status,
  retry_at timestamptz,
  fingerprint text,
  reason text,
  actor text,
  error jsonb,
  result jsonb,
  note jsonb,
  cause_id bigint,
  constraint runs_pkey primary key (job_id, lease_id),
  constraint runs_completed_means_completed check ((outcome = 'completed') = (to_status = 'completed')),
  constraint runs_end_of_attempt check (to_status <> 'processing' and (to_status <> 'blocked' or outcome = 'redriven')),
  constraint runs_cause_of_cancellation check (cause_id is null or to_status = 'cancelled'),
  constraint runs_finish_after_start check (finished_at >= started_at)
) partition by range (job_id);
comment on table queue.runs is
  'One row for each attempt that ended, and for each thing an operator did to a job''s status. Append only, but for a note that a revival leaves on the newest row. The newest row of a job tells whether it ended.';
comment on column queue.runs.lease_id is
  'The lease it ran under; for an operator''s act a number drawn from the same sequence, so that rows of a job are in order.';
comment on column queue.runs.from_status is 'Status before; null means processing.';
comment on column queue.runs.actor is 'Who did it, where it was no worker.';
comment on column queue.runs.note is 'What the handler keeps with the attempt, such as the function that it called and its answer''s status.';
create index runs_finished_idx on queue.runs using brin (finished_at);

create table queue.ready (
  id bigint not null,
  at timestamptz not null,
  queue_id integer not null,
  lane integer not null,
  type_id integer not null,
  priority smallint not null,
  attempt smallint not null default 0,
  crashes smallint not null default 0,
  constraint ready_pkey primary key (id)
) with (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0,
  autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 1
);
create index ready_claim_idx on queue.ready (queue_id, priority, lane, at, id);
create index ready_suspects_idx on queue.ready (queue_id, priority, at, id) where crashes > 1;
comment on table queue.ready is 'Tokens of pending jobs: those that may run now. The claim deletes them.';
comment on column queue.ready.lane is 'The tenant, or 0 for all in a queue that is strictly first in, first out.';
comment on column queue.ready.attempt is 'Attempts used up so far.';
comment on column queue.ready.crashes is
  'How often its lease ran out. A job that may have killed its worker is leased alone; after the second time its worker holds no other such job.';

create table queue.scheduled (
  id bigint not null,
  at timestamptz not null,
  queue_id integer not null,
  lane integer not null,
  type_id integer not null,
  priority smallint not null,
  attempt smallint not null default 0,
  crashes smallint not null default 0,
  constraint scheduled_pkey primary key (id)
) with (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0,
  autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 1
);
create index scheduled_due_idx on queue.scheduled (at, id);
comment on table queue.scheduled is 'Tokens of jobs whose time has not come: future jobs, retries, snoozes.';

create table queue.waiting (
  id bigint not null,
  at timestamptz not null,
  queue_id integer not null,
  lane integer not null,
  type_id integer not null,
  open_parents integer not null,
  first_parent bigint not null,
  priority smallint not null,
  attempt smallint not null default 0,
  crashes smallint not null default 0,
  constraint waiting_pkey primary key (id),
  constraint waiting_has_open_parents check (open_parents > 0)
);
create index waiting_parent_idx on queue.waiting (first_parent);
comment on table queue.waiting is 'Tokens of blocked jobs: they wait until open_parents reaches zero.';

comment on column queue.waiting.first_parent is
  'The smallest id among its parents, those that have ended included: retention finds by it who may still need a result.';

create table queue.dependencies (
  parent_id bigint not null,
  child_id bigint not null,
  run_anyway boolean not null,
  is_racing boolean not null,
  constraint dependencies_pkey primary key (parent_id, child_id),
  constraint dependencies_not_itself check (parent_id <> child_id)
);
create index dependencies_child_idx on queue.dependencies (child_id);
create index dependencies_racing_idx on queue.dependencies (parent_id) where is_racing;
comment on table queue.dependencies is 'One row for each parent that has not ended; deleted when it ends.';
comment on column queue.dependencies.run_anyway is 'True: the child runs even if the parent fails or is cancelled.';
comment on column queue.dependencies.is_racing is
  'The parent was processing when the child came, so its end may not have seen this row: the sweep looks again.';

create table queue.leases (
  id bigint not null,
  claimed_at timestamptz not null,
  expires_at timestamptz not null,
  worker_id integer not null,
  crashes smallint not null,
  is_handed_over boolean not null default false,
  is_offered boolean not null default false,
  job_ids bigint[] not null,
  attempts smallint[] not null,
  constraint leases_pkey primary key (id),
  constraint leases_arrays_parallel check (cardinality(job_ids) = cardinality(attempts)),
  constraint leases_not_empty check (cardinality(job_ids) > 0),
  constraint leases_handed_over_alone check (not is_handed_over or cardinality(job_ids) = 1),
  constraint leases_offered_alone check (not is_offered or (cardinality(job_ids) = 1 and crashes = 0 and not is_handed_over)),
  constraint leases_suspects_alone check (crashes = 0 or cardinality(job_ids) = 1)
) with (
  toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0
);
alter table queue.leases alter column job_ids set storage main, alter column attempts set storage main;
create index leases_expiry_idx on queue.leases (expires_at);
create index leases_worker_idx on queue.leases (worker_id, crashes);
-- A job that is leased alone is found by its id; leases of several, which are few, by null.
create index leases_job_idx on queue.leases ((case when cardinality(job_ids) = 1 then job_ids[1] end));
comment on table queue.leases is
  'One row for each claimed batch: the time-limited right of one worker to run these jobs. Every write of a worker names a live lease.';
comment on column queue.leases.is_handed_over is
  'The worker has passed the job on, to a function that tells its end itself: see queue.hand_over.';
comment on column queue.leases.is_offered is
  'Made by the enqueue for a worker that slept, which has not been heard of since: see queue.offer. It ends soon, and then nothing is charged.';
comment on column queue.leases.attempts is 'The number of this attempt, for each of job_ids.';

create table queue.dead_letters (
  job_id bigint not null,
  type_id integer not null,
  queue_id integer not null,
  tenant_id integer not null,
  priority smallint not null,
  max_retries smallint not null,
  attempts smallint not null,
  redrive_count integer not null,
  created_at timestamptz not null,
  failed_at timestamptz not null,
  fingerprint text not null,
  last_error text not null,
  errors jsonb not null,
  options jsonb,
  payload jsonb not null,
  constraint dead_letters_pkey primary key (job_id)
);
create index dead_letters_type_idx on queue.dead_letters (type_id, failed_at);
create index dead_letters_fingerprint_idx on queue.dead_letters (fingerprint, failed_at);
create index dead_letters_failed_idx on queue.dead_letters (failed_at);
create index dead_letters_queue_idx on queue.dead_letters (queue_id);
comment on table queue.dead_letters is 'Failed jobs with a copy of their facts and every error: they outlive their partition.';

create table queue.idempotency_keys (
  scope bytea not null,
  key text not null,
  job_id bigint not null,
  constraint idempotency_keys_pkey primary key (scope, key)
);
create index idempotency_keys_job_idx on queue.idempotency_keys (job_id);
comment on table queue.idempotency_keys is 'The first job enqueued with a key; later ones with that key return it. For the scope see queue.key_scope.';

create table queue.cancellations (
  job_id bigint not null,
  requested_at timestamptz not null,
  requested_by text not null,
  reason text,
  constraint cancellations_pkey primary key (job_id)
);
comment on table queue.cancellations is 'Running jobs that somebody asked to cancel; their worker learns of it at its next extend.';

create table queue.progress (
  job_id bigint not null,
  updated_at timestamptz not null,
  percent numeric(5, 2),
  message text,
  data jsonb,
  constraint progress_pkey primary key (job_id),
  constraint progress_percent_sane check (percent between 0 and 100)
) with (fillfactor = 70);
comment on table queue.progress is 'The last progress a handler reported for a job.';

create table queue.workers (
  id integer generated always as identity,
  name text not null,
  started_at timestamptz not null,
  seen_at timestamptz not null,
  is_registered boolean not null,
  queue_names text[],
  type_names text[],
  details jsonb,
  constraint workers_pkey primary key (id),
  constraint workers_name_key unique (name)
) with (fillfactor = 70);
create index workers_seen_idx on queue.workers (seen_at);
comment on table queue.workers is 'Workers and their last sign of life. A worker''s name is new at each start of a process.';
comment on column queue.workers.type_names is 'Types it has handlers for; null: not told (a simple caller).';

create unlogged table queue.bells (
  queue_id integer not null,
  worker_id integer not null,
  number integer not null default 1,
  type_ids integer[],
  channel text,
  offer_ms integer,
  constraint bells_pkey primary key (queue_id, worker_id, number),
  constraint bells_offers_complete check ((channel is null) = (offer_ms is null))
);
comment on table queue.bells is
  'Sleeping workers that want to be woken when a job becomes ready on a queue. Unlogged: after a crash they poll until they ring again.';
comment on column queue.bells.number is
  'A worker whose bell an open transaction holds arms the next one. Lower ones than that no longer count.';
comment on column queue.bells.type_ids is 'Types that the worker runs; null: any.';
comment on column queue.bells.channel is
  'Where the worker takes a job without asking: known to it alone, because anybody may LISTEN. Null: it only wants to be woken.';
comment on column queue.bells.offer_ms is 'How long it has to accept such a job.';
comment on column queue.bells.queue_id is '0 stands for every queue: with worker 0 it is the bell of the Edge worker, with another that of a worker of very many queues.';

create unlogged table queue.passed_bells (
  queue_id integer not null,
  worker_id integer not null,
  number integer not null,
  constraint passed_bells_pkey primary key (queue_id, worker_id)
);
comment on table queue.passed_bells is
  'Bells up to this number were taken by transactions that are still open, and their worker knows it: they no longer wake it.';

create unlogged table queue.sweeps (
  scope bigint not null,
  at timestamptz not null,
  constraint sweeps_pkey primary key (scope)
) with (fillfactor = 50);
comment on table queue.sweeps is
  'When a worker last claimed from the start and not from its mark, for each set of queues and types. Unlogged: lost, the next worker sweeps at once.';

create unlogged table queue.detours (
  scope bigint not null,
  number bigint generated always as identity,
  at timestamptz not null,
  pause_ms integer not null,
  mark json not null,
  constraint detours_pkey primary key (scope, number)
);
comment on table queue.detours is
  'Where claims from a set of queues and types begin for a while, because a look from the start had to pass much that is not for them. Empty as a rule. The newest row of a scope holds. Unlogged: lost, the next claim looks from the start.';
comment on column queue.detours.mark is 'A position in one lane, as queue.claim returns it; or "from", a time before which nothing is pending.';

create sequence queue.detour_mark as bigint minvalue 0 start 0;
comment on sequence queue.detour_mark is
  '1 while there may be a row in queue.detours. A sequence, because each claim reads it, and no snapshot keeps old values of it.';

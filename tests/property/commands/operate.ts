import assert from "node:assert/strict";
import fc from "fast-check";
import { byId, type DeadLetter, type Model, WAITING } from "../model.ts";
import { act, enqueue } from "../rules.ts";
import { QUEUES, TYPES } from "../world.ts";
import { anyOne, command, pickJob, type Steps } from "./command.ts";

export const cancelJob: Steps = command("cancel_job", anyOne, async (world, model, n) => {
  const job = pickJob(model, n);
  const [row] = await world.sql<{ status: string | null }[]>`
    select public.cancel_job(${job?.id ?? "77"}, 'not wanted') as status`;

  if (job && WAITING.includes(job.status)) act(model, job, "cancelled", "cancelled");
  if (job?.status === "processing") job.cancelRequested = true;
  assert.equal(row?.status, job?.status ?? null);
});

export const retryJob: Steps = command("retry_job", anyOne, async (world, model, n) => {
  const job = pickJob(model, n, (one) => one.status !== "processing") ?? pickJob(model, n);
  const [row] = await world.sql<{ status: string | null }[]>`
    select public.retry_job(${job?.id ?? "77"}, 'try now') as status`;

  if (job?.status === "scheduled") act(model, job, "expedited", "pending");
  if (job?.status === "failed" || job?.status === "cancelled")
    act(model, job, "redriven", "pending");
  const canRun = job && job.status !== "completed" && job.status !== "blocked";
  assert.equal(row?.status, canRun ? job.status : null);
});

const filter = fc.record({
  type: fc.option(fc.constantFrom(...TYPES), { nil: undefined, freq: 2 }),
  tenant: fc.constantFrom(undefined, undefined, "ann"),
  /** Milliseconds: only what failed before so long ago. */
  age: fc.constantFrom(undefined, undefined, 10_000),
  limit: fc.constantFrom(1, 2, 1000),
  isDryRun: fc.constantFrom(false, false, true),
});
type Filter = typeof filter extends fc.Arbitrary<infer T> ? T : never;

export const redriveJobs: Steps = command("redrive_jobs", filter, async (world, model, choice) => {
  const rows = await world.sql<{ id: string; new_id: string }[]>`
    select id::text, new_id::text from public.redrive_jobs(
      p_type => ${choice.type ?? null}, p_tenant_id => ${choice.tenant ?? null},
      p_failed_before => ${before(model, choice)}, p_limit => ${choice.limit}, p_dry_run => ${choice.isDryRun})`;

  const found = findDead(model, choice);
  assert.deepEqual(
    rows.map(({ id }) => id),
    found.map(({ id }) => id),
  );
  if (choice.isDryRun) return;
  for (const [index, dead] of found.entries()) redrive(model, dead, rows[index]?.new_id ?? "none");
});

/** Of a job that left with its partition the dead letter makes a new one. */
function redrive(model: Model, dead: DeadLetter, newId: string): void {
  const job = model.jobs.get(dead.id);
  assert.equal(newId === dead.id, job !== undefined);
  if (job) {
    act(model, job, "redriven", "pending");
    return;
  }
  model.deadLetters.delete(dead.id);
  const facts = { ...dead, id: newId, createdAt: model.now, scheduledAt: null };
  enqueue(model, [{ facts, parents: [], runAnyway: false }]);
}

export const purgeJobs: Steps = command("purge_jobs", filter, async (world, model, choice) => {
  const [row] = await world.sql<{ count: number }[]>`
    select public.purge_jobs(
      p_type => ${choice.type ?? null}, p_tenant_id => ${choice.tenant ?? null},
      p_failed_before => ${before(model, choice)}, p_limit => ${choice.limit}, p_dry_run => ${choice.isDryRun}) as count`;

  const found = findDead(model, choice);
  assert.equal(row?.count, found.length);
  if (choice.isDryRun) return;
  for (const { id } of found) {
    model.deadLetters.delete(id);
    for (const [key, holder] of model.keys) if (holder === id) model.keys.delete(key);
  }
});

function before(model: Model, choice: Filter): string | null {
  return choice.age === undefined ? null : new Date(model.now / 1000 - choice.age).toISOString();
}

function findDead(model: Model, choice: Filter): DeadLetter[] {
  return [...model.deadLetters.values()]
    .filter(
      (dead) =>
        (choice.type === undefined || dead.type === choice.type) &&
        (choice.tenant === undefined || dead.tenant === choice.tenant) &&
        (choice.age === undefined || dead.failedAt < model.now - choice.age * 1000),
    )
    .sort((left, right) => left.failedAt - right.failedAt || byId(left.id, right.id))
    .slice(0, choice.limit);
}

export const pauseQueue: Steps = command(
  "pause or resume",
  fc.record({ queue: fc.constantFrom(...QUEUES), isPaused: fc.boolean() }),
  async (world, model, { queue, isPaused }) => {
    const [row] = isPaused
      ? await world.sql<
          { changed: boolean }[]
        >`select public.pause_queue(${queue}, 'a pause') as changed`
      : await world.sql<{ changed: boolean }[]>`select public.resume_queue(${queue}) as changed`;

    assert.equal(row?.changed, model.paused.has(queue) !== isPaused);
    if (isPaused) model.paused.add(queue);
    else model.paused.delete(queue);
  },
);

import assert from "node:assert/strict";
import fc from "fast-check";
import { byId, type Job, type Lease, type Model } from "../model.ts";
import { promote, start } from "../rules.ts";
import { FIFO, QUEUES, TYPES, WORKERS } from "../world.ts";
import { command, type Steps, sortIds } from "./command.ts";

/** What a claim asks for; undefined means any. */
export interface Wish {
  readonly worker: string;
  readonly types?: readonly string[] | undefined;
  readonly queues?: readonly string[] | undefined;
  readonly tenant?: string | undefined;
  readonly limit: number;
  readonly leaseMs: number;
  /** Goes on from a remembered position: order holds only from there. */
  readonly isMarked?: boolean;
}

/** What a claim got. */
export interface Claimed {
  readonly id: string;
  readonly lease_id: string;
  readonly attempt: number;
  readonly type: string;
  readonly queue: string;
  readonly priority: string;
  readonly payload: unknown;
  readonly tenant_id: string | null;
  readonly max_retries: number;
}

export const PRIORITIES: readonly string[] = ["critical", "high", "normal", "low"];

const CLAIMED = `id::text, lease_id::text, attempt, type, queue, priority, payload, tenant_id, max_retries`;

export const someTypes: fc.Arbitrary<string[] | undefined> = fc.option(
  fc.subarray([...TYPES], { minLength: 1 }),
  { nil: undefined, freq: 3 },
);
export const leaseSeconds: fc.Arbitrary<number> = fc.constantFrom(1, 30, 60);

export const getNextJob: Steps = command(
  "get_next_job",
  fc.record({
    worker: fc.constantFrom(...WORKERS),
    types: someTypes,
    limit: fc.integer({ min: 1, max: 4 }),
    tenant: fc.constantFrom(undefined, undefined, "ann", "ben"),
    seconds: leaseSeconds,
  }),
  async (world, model, choice) => {
    const rows = await world.sql<Claimed[]>`
      select ${world.sql.unsafe(CLAIMED)} from public.get_next_job(
        ${choice.worker}, ${choice.types ?? null}, ${choice.limit}, ${choice.tenant ?? null}, ${choice.seconds})`;

    took(model, { ...choice, leaseMs: choice.seconds * 1000 }, rows);
  },
);

export const claimNextJob: Steps = command(
  "claim_next_job",
  fc.record({
    worker: fc.constantFrom(...WORKERS),
    tenant: fc.constantFrom(undefined, "ann", "cat"),
  }),
  async (world, model, choice) => {
    const rows = await world.sql<Claimed[]>`
      select ${world.sql.unsafe(CLAIMED)}
      from public.claim_next_job(${choice.worker}, ${choice.tenant ?? null}, 30)`;

    took(model, { ...choice, limit: 1, leaseMs: 30_000 }, rows);
  },
);

/** Checks that a claim got what it should have got, and tells the model. */
export function took(model: Model, wish: Wish, rows: readonly Claimed[]): void {
  promote(model);
  const eligible = free(model, wish, rows);
  const ids = new Set(rows.map((row) => row.id));
  const got = eligible.filter((job) => ids.has(job.id));

  assert.equal(rows.length, Math.min(wish.limit, eligible.length), "a claim takes all it may");
  assert.equal(got.length, rows.length, "a claim takes only what it may");
  for (const row of rows) {
    assert.equal(row.attempt, model.job(row.id).attempts + 1, "the claim counts the attempt");
    checkIdentity(model.job(row.id), row);
  }
  if (wish.isMarked !== true) checkOrder(model, eligible, rows);
  for (const lease of leasesOf(model, wish, rows)) start(model, lease);
}

/** Everything that a claim says of a job is that job's own. */
function checkIdentity(job: Job, row: Claimed): void {
  const { type, queue, priority, payload, tenant_id, max_retries } = row;
  assert.deepEqual(
    { type, queue, priority: PRIORITIES.indexOf(priority), payload, tenant_id, max_retries },
    {
      type: job.type,
      queue: job.queue,
      priority: job.priority,
      payload: { nonce: job.nonce },
      tenant_id: job.tenant,
      max_retries: job.maxRetries,
    },
    `job ${job.id} was claimed with the facts of another`,
  );
}

/** What a claim may get. Of the jobs that were lost more than once a worker holds one at a time, and it was `rows` that chose it. */
function free(model: Model, wish: Wish, rows: readonly Claimed[]): Job[] {
  const eligible = [...model.jobs.values()].filter((job) => isEligible(model, job, wish));
  const isTwiceLost = (job: Job): boolean => job.crashes > 1;
  const holdsOne = [...model.leases.values()].some(
    (lease) => lease.worker === wish.worker && lease.crashes > 1,
  );
  const chosen = rows.map((row) => model.job(row.id)).filter(isTwiceLost);
  assert.ok(chosen.length <= (holdsOne ? 0 : 1), "one job that was lost twice at a time");
  const place = [...eligible].sort((a, b) => a.priority - b.priority);
  const first = holdsOne ? undefined : (chosen[0] ?? place.find(isTwiceLost));
  return eligible.filter((job) => !isTwiceLost(job) || job === first);
}

function isEligible(model: Model, job: Job, wish: Wish): boolean {
  return (
    job.status === "pending" &&
    !model.paused.has(job.queue) &&
    (wish.types?.includes(job.type) ?? true) &&
    (wish.queues?.includes(job.queue) ?? true) &&
    (wish.tenant === undefined || job.tenant === wish.tenant)
  );
}

function checkOrder(model: Model, eligible: readonly Job[], rows: readonly Claimed[]): void {
  const got = rows.map((row) => model.job(row.id));
  const left = eligible.filter((job) => !got.includes(job));
  const ranks = got.map((job) => job.priority);
  assert.deepEqual(ranks, ranks.toSorted(), "what is more urgent comes first");
  for (const job of left) {
    assert.ok(
      job.priority >= (ranks.at(-1) ?? 0),
      `${job.id} is more urgent than what was claimed`,
    );
    // Of those lost more than once each claim may take one, whether its turn has come or not.
    const overtakers = got.filter(
      (taken) => taken.crashes < 2 && laneOf(taken) === laneOf(job) && isOlder(job, taken),
    );
    assert.deepEqual(
      overtakers.map(({ id }) => id),
      [],
      `${job.id} waits longer in the same lane`,
    );
  }
}

function laneOf(job: Job): string {
  return [job.queue, job.priority, job.queue === FIFO ? "" : job.tenant].join("/");
}

function isOlder(left: Job, right: Job): boolean {
  return left.at < right.at || (left.at === right.at && byId(left.id, right.id) < 0);
}

/** A job whose lease ran out before is leased alone; all others share one lease. */
function leasesOf(model: Model, wish: Wish, rows: readonly Claimed[]): Lease[] {
  const ids = sortIds(new Set(rows.map((row) => row.lease_id)));
  const leases = ids.map((id): Lease => {
    const held = rows.filter((row) => row.lease_id === id);
    const crashes = model.job(held[0]?.id ?? "").crashes;
    assert.ok(
      crashes === 0 || held.length === 1,
      `the suspect ${held[0]?.id} must be leased alone`,
    );
    return {
      id,
      worker: wish.worker,
      crashes,
      held: new Map(held.map((row) => [row.id, row.attempt])),
      open: new Set(held.map((row) => row.id)),
      expiresAt: model.now + wish.leaseMs * 1000,
      isOffered: false,
    };
  });
  assert.ok(leases.filter((lease) => lease.crashes === 0).length <= 1, "a batch is one lease");
  return leases;
}

/** Names of queues by which `queue.advance` is called for one lane of a worker. */
export const someQueues: fc.Arbitrary<string[] | undefined> = fc.option(
  fc.subarray([...QUEUES], { minLength: 1 }),
  { nil: undefined },
);

import assert from "node:assert/strict";
import fc from "fast-check";
import { type Model, pick } from "../model.ts";
import { enqueue, type NewJob, start } from "../rules.ts";
import { FIFO, MIXED, QUEUES, TYPES, WORKERS, type World } from "../world.ts";
import { anyOne, command, type Steps } from "./command.ts";

const PRIORITIES = ["critical", "high", "normal", "low"];
const OFFER_MS = 2_000;
const DEFAULT_RETRIES = 3;
const DEFAULT_BACKOFF = { baseMs: 1000, capMs: 3_600_000, jitter: 0.5 };

/** Mostly none. */
function someOf(maxLength: number): fc.Arbitrary<number[]> {
  return fc.oneof(
    { weight: 2, arbitrary: fc.constant<number[]>([]) },
    fc.array(anyOne, { maxLength }),
  );
}

const spec = fc.record(
  {
    type: fc.constantFrom(...TYPES),
    queue: fc.constantFrom(undefined, undefined, MIXED, FIFO),
    tenant: fc.constantFrom(undefined, "ann", "ben", "cat"),
    priority: fc.constantFrom("normal", ...PRIORITIES),
    /** Milliseconds from now. */
    delay: fc.constantFrom(undefined, undefined, undefined, -5000, 0, 1500, 60_000),
    maxRetries: fc.constantFrom(undefined, 0, 1, 2),
    backoff: fc.constantFrom(
      undefined,
      { base_ms: 500, cap_ms: 900, jitter: 0 },
      { base_ms: 2000, jitter: 1 },
    ),
    /** Jobs that are there already, and earlier ones of the same call. */
    parents: someOf(3),
    refs: someOf(2),
    runAnyway: fc.boolean(),
    key: fc.constantFrom(undefined, undefined, undefined, "one", "two"),
  },
  { noNullPrototype: true },
);
type Spec = typeof spec extends fc.Arbitrary<infer T> ? T : never;

export const enqueueOne: Steps = command("enqueue", spec, async (world, model, choice) => {
  const asked = element(model, choice);
  // A job with parents, ended or not, takes another way.
  const sleepers = asked.depends_on.length > 0 ? [] : await sleepersFor(world, choice);
  const [row] = await world.sql<{ id: string }[]>`
    select public.enqueue_job(
      ${choice.type}, ${JSON.stringify(asked.payload)}::text::jsonb, ${choice.priority}, ${asked.scheduled_at}, ${choice.tenant ?? null},
      ${choice.queue ?? null}, ${choice.maxRetries ?? null}, ${asked.depends_on}::bigint[], ${choice.key ?? null},
      ${asked.options === null ? null : JSON.stringify(asked.options)}::text::jsonb
    )::text as id`;

  const known = choice.key === undefined ? undefined : holderOf(model, keyOf(choice, choice.key));
  if (known !== undefined) assert.equal(row?.id, known);
  else {
    learn(model, [choice], [row?.id ?? "none"], [asked.payload.nonce]);
    await learnOffer(world, model, row?.id ?? "none", sleepers);
  }
});

/** Names of the workers that take a job of this type and queue without asking. */
async function sleepersFor(world: World, spec: Spec): Promise<string[]> {
  const { type } = spec;
  const queue: string = spec.queue ?? type;
  const bells = await world.sql<{ worker: number }[]>`
    select worker_id as worker from queue.bells
    where channel is not null and queue_id = ${world.queueIds.get(queue) ?? -1}
      and (type_ids is null or ${world.typeIds.get(type) ?? -1} = any (type_ids))`;
  const names = new Map([...world.workers].map(([name, number]) => [number, name]));
  return bells.map(({ worker }) => names.get(worker) ?? "nobody");
}

/** A job that could be claimed at once goes to one of those who sleep; which of them is not for us to say. */
async function learnOffer(
  world: World,
  model: Model,
  id: string,
  sleepers: readonly string[],
): Promise<void> {
  const [lease] = await world.sql<{ id: string; worker: string }[]>`
    select lease.id::text, worker.name as worker from queue.leases as lease
    join queue.workers as worker on worker.id = lease.worker_id
    where ${id}::bigint = any (lease.job_ids)`;
  const job = model.job(id);
  const isPlain =
    job.status === "pending" &&
    job.maxRetries > 0 &&
    job.queue !== FIFO &&
    !model.paused.has(job.queue);
  assert.equal(lease !== undefined, isPlain && sleepers.length > 0);
  if (!lease) return;
  assert.ok(sleepers.includes(lease.worker));
  start(model, {
    id: lease.id,
    worker: lease.worker,
    crashes: 0,
    held: new Map([[id, 1]]),
    open: new Set([id]),
    expiresAt: model.now + OFFER_MS * 1_000,
    isOffered: true,
  });
}

/** A worker goes to sleep: it takes the next job of these without asking, or only wants to be woken. */
export const sleep: Steps = command(
  "arm_bells",
  fc.record({
    worker: fc.constantFrom(...WORKERS),
    queues: fc.subarray([...QUEUES], { minLength: 1 }),
    types: fc.subarray([...TYPES], { minLength: 1 }),
    takesJobs: fc.constantFrom(true, true, true, false),
  }),
  async (world, _model, { worker, queues, types, takesJobs }) => {
    await world.sql`
      select queue.arm_bells(${world.workers.get(worker) ?? -1},
        ${queues.map((name) => world.queueIds.get(name) ?? -1)}::integer[],
        ${types.map((name) => world.typeIds.get(name) ?? -1)}::integer[],
        ${takesJobs ? `channel ${worker}` : null}, ${takesJobs ? OFFER_MS : null})`;
  },
);

export const enqueueMany: Steps = command(
  "enqueue_jobs",
  fc.array(spec, { minLength: 1, maxLength: 5 }),
  async (world, model, choices) => {
    const asked = choices.map((choice, index) => ({
      ...element(model, choice),
      ref: `r${index}`,
      depends_on_refs: choice.refs.map((n) => `r${n % Math.max(index, 1)}`).filter(() => index > 0),
    }));
    const rows = await world.sql<{ id: string; outcome: string }[]>`
      select id::text, outcome from public.enqueue_jobs(${JSON.stringify(asked)}::text::jsonb) order by ordinal`;

    const taken = new Set<string>();
    const fresh = choices.map((choice) => {
      const key = choice.key && keyOf(choice, choice.key);
      if (!key) return true;
      const isFresh = !taken.has(key) && holderOf(model, key) === undefined;
      taken.add(key);
      return isFresh;
    });
    assert.deepEqual(
      rows.map((row) => row.outcome),
      fresh.map((isFresh) => (isFresh ? "created" : "existing")),
    );
    learn(
      model,
      choices,
      rows.map((row) => row.id),
      asked.map(({ payload }) => payload.nonce),
      fresh,
    );
  },
);

function element(model: Model, choice: Spec) {
  const options = {
    ...(choice.backoff && { backoff: choice.backoff }),
    ...(choice.runAnyway && { on_parent_failure: "run" }),
    // Each payload holds a nonce of its own, so a second job with a key has another payload.
    ...(choice.key !== undefined && { on_key_conflict: "return" }),
  };
  return {
    type: choice.type,
    payload: { nonce: model.nextNonce() },
    priority: choice.priority,
    scheduled_at:
      choice.delay === undefined ? null : new Date(model.now / 1000 + choice.delay).toISOString(),
    tenant_id: choice.tenant ?? null,
    queue: choice.queue ?? null,
    max_retries: choice.maxRetries ?? null,
    depends_on: parentsOf(model, choice),
    idempotency_key: choice.key ?? null,
    options: Object.keys(options).length > 0 ? options : null,
  };
}

function parentsOf(model: Model, choice: Spec): string[] {
  const ids = [...model.jobs.keys()];
  return choice.parents.flatMap((n) => pick(ids, n) ?? []);
}

function keyOf(choice: Spec, key: string): string {
  return `${choice.tenant ?? ""}/${choice.type}/${key}`;
}

/** The job that has a key; a cancelled one lets the next have it. */
function holderOf(model: Model, key: string): string | undefined {
  const id = model.keys.get(key);
  return id === undefined || model.job(id).status === "cancelled" ? undefined : id;
}

/** Tells the model what was enqueued: only elements that are new. */
function learn(
  model: Model,
  choices: readonly Spec[],
  ids: readonly string[],
  nonces: readonly string[],
  fresh: readonly boolean[] = [true],
): void {
  const made = choices.map((choice, index): NewJob => {
    const id = ids[index] ?? "none";
    const refs = index === 0 ? [] : choice.refs.map((n) => ids[n % index] ?? "none");
    return {
      facts: {
        id,
        type: choice.type,
        queue: choice.queue ?? choice.type,
        tenant: choice.tenant ?? null,
        priority: PRIORITIES.indexOf(choice.priority),
        maxRetries: choice.maxRetries ?? DEFAULT_RETRIES,
        backoff: choice.backoff
          ? {
              ...DEFAULT_BACKOFF,
              baseMs: choice.backoff.base_ms,
              jitter: choice.backoff.jitter,
              ...capOf(choice.backoff),
            }
          : DEFAULT_BACKOFF,
        createdAt: model.now,
        scheduledAt: choice.delay === undefined ? null : model.now + choice.delay * 1000,
        nonce: nonces[index] ?? "none",
      },
      parents: [...parentsOf(model, choice), ...refs],
      runAnyway: choice.runAnyway,
    };
  });
  const isNew = made.filter((_, index) => fresh[index] ?? true);
  enqueue(model, isNew);
  choices.forEach((choice, index) => {
    if (choice.key && fresh[index] !== false)
      model.keys.set(keyOf(choice, choice.key), ids[index] ?? "none");
  });
}

function capOf(backoff: { cap_ms?: number }): { capMs?: number } {
  return backoff.cap_ms === undefined ? {} : { capMs: backoff.cap_ms };
}

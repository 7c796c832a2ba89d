import assert from "node:assert/strict";
import fc from "fast-check";
import { type ClaimedColumns, toRows } from "../../../src/db/claimed-jobs.ts";
import { type Lease, type Model, pick } from "../model.ts";
import { rescue, type Settlement, settle } from "../rules.ts";
import { WORKERS } from "../world.ts";
import { type Claimed, leaseSeconds, someQueues, someTypes, took } from "./claim.ts";
import { anyOne, command, heldChoice, pickHeld, type Steps, sortIds } from "./command.ts";
import { pastAnswer, settlement } from "./settle.ts";

export const extendLeases: Steps = command(
  "extend_leases",
  fc.record({
    worker: fc.constantFrom(...WORKERS),
    leases: fc.array(anyOne, { maxLength: 3 }),
    seconds: leaseSeconds,
  }),
  async (world, model, { worker, leases, seconds }) => {
    const asked = [...new Set(leases.flatMap((n) => pick(model.oldLeases, n) ?? []))];
    const [row] = await world.sql<{ answer: { alive: string[]; cancelled: [string, string][] } }[]>`
      select queue.extend_leases(${world.workers.get(worker) ?? -1}, ${asked.map(({ id }) => id)}::bigint[],
        ${seconds * 1000}) as answer`;

    const alive = asked.filter((lease) => model.leases.has(lease.id) && lease.worker === worker);
    assert.deepEqual(sortIds(row?.answer.alive ?? []), sortIds(alive.map(({ id }) => id)));
    assert.deepEqual(
      row?.answer.cancelled.map(String).sort(),
      alive.flatMap((lease) => wanted(model, lease)).sort(),
    );
    for (const lease of alive) {
      lease.expiresAt = Math.max(lease.expiresAt, model.now + seconds * 1_000_000);
      lease.isOffered = false;
    }
  },
);

/** Jobs of a lease that somebody wants cancelled, as `lease,job`. */
function wanted(model: Model, lease: Lease): string[] {
  return [...lease.open]
    .filter((id) => model.isCancelWanted(lease, id))
    .map((id) => `${lease.id},${id}`);
}

export const forgetLeases: Steps = command(
  "forget_leases",
  fc.record({ worker: fc.constantFrom(...WORKERS), known: fc.array(anyOne, { maxLength: 2 }) }),
  async (world, model, { worker, known }) => {
    const kept = known.flatMap((n) => pick(model.oldLeases, n)?.id ?? []);
    const id = world.workers.get(worker) ?? -1;
    const [others] = await world.sql<{ ids: string[] }[]>`
      select queue.other_leases(${id}, ${kept}::bigint[]) as ids`;
    const [row] = await world.sql<{ count: number }[]>`
      select queue.forget_leases(${id}, ${others?.ids ?? []}::bigint[]) as count`;

    const items = [...model.leases.values()]
      .filter((lease) => lease.worker === worker && !lease.isOffered && !kept.includes(lease.id))
      .flatMap((lease) => [...lease.open].map((id) => ({ lease: lease.id, id })));
    const how: Settlement = { outcome: "released" };
    settle(
      model,
      items.map((item) => ({ ...item, how })),
    );
    assert.equal(row?.count, items.length);
  },
);

export const reportProgress: Steps = command(
  "report_progress",
  heldChoice,
  async (world, model, which) => {
    const held = pickHeld(model, which);
    if (!held) return;
    const [row] = await world.sql<{ stored: boolean }[]>`
    select public.report_progress(${held.id}, 50, 'half', null, ${held.lease}) as stored`;

    assert.equal(row?.stored, model.leases.get(held.lease)?.open.has(held.id) ?? false);
  },
);

interface AdvanceAnswer {
  readonly refused: [string, string][];
  readonly statuses: Record<string, string>;
  readonly jobs: ClaimedColumns | null;
  readonly lost: string[] | null;
  readonly mark: unknown;
}

/** The fused step of a worker: settle what is done, settle the rest, claim more. */
export const advance: Steps = command(
  "advance",
  fc.record({
    worker: fc.constantFrom(...WORKERS),
    wholes: fc.array(anyOne, { maxLength: 2 }),
    done: fc.array(heldChoice, { maxLength: 3 }),
    rest: fc.array(fc.record({ held: heldChoice, how: settlement() }), { maxLength: 2 }),
    limit: fc.integer({ min: 0, max: 4 }),
    types: someTypes,
    queues: someQueues,
    except: fc.boolean(),
    seconds: leaseSeconds,
    isMarked: fc.boolean(),
  }),
  async (world, model, choice) => {
    // A worker settles a lease as one only if nothing of it was told apart; or it does not know yet that it lost the lease.
    const wholes = [
      ...new Set(choice.wholes.flatMap((n) => pick(model.oldLeases, n) ?? [])),
    ].filter((lease) => !model.leases.has(lease.id) || lease.open.size === lease.held.size);
    const isApart = ({ lease }: Item): boolean => !wholes.some(({ id }) => id === lease);
    const done = distinct(
      choice.done.flatMap((which) => pickHeld(model, which) ?? []).filter(isApart),
    );
    const rest = distinct(
      choice.rest.flatMap(({ held, how }) => {
        const item = pickHeld(model, held);
        return item && isApart(item) ? [{ ...item, how }] : [];
      }),
    );
    const mark = choice.isMarked ? (world.marks.get(choice.worker) ?? undefined) : undefined;
    const queues = choice.except ? undefined : choice.queues;
    const except = choice.except ? choice.queues : undefined;
    const ids = (names: readonly string[] | undefined, known: ReadonlyMap<string, number>) =>
      names === undefined ? null : names.map((name) => known.get(name) ?? -1);
    const [row] = await world.sql<{ answer: AdvanceAnswer }[]>`
      select queue.advance(
        ${world.workers.get(choice.worker) ?? -1},
        ${done.map(({ lease }) => lease)}::bigint[], ${done.map(({ id }) => id)}::bigint[],
        ${done.map(() => 5)}::integer[], ${results(
          model,
          done.map(({ id }) => id),
        )}::text::json,
        ${JSON.stringify(rest.map(({ lease, id, how }) => ({ lease, id, outcome: how.outcome, retryable: how.retryable, delay_ms: how.delayMs })))}::text::jsonb,
        ${choice.limit}, ${ids(queues, world.queueIds)}::integer[], ${ids(except, world.queueIds)}::integer[],
        ${ids(choice.types, world.typeIds)}::integer[], ${choice.seconds * 1000},
        ${mark === undefined ? null : JSON.stringify(mark)}::text::json,
        ${wholes.length > 0 ? wholes.map(({ id }) => id) : null}::bigint[],
        ${wholes.map(({ held }) => held.size)}::integer[],
        ${wholes.flatMap(({ held }) => [...held].map(() => 5))}::integer[],
        ${results(
          model,
          wholes.flatMap(({ held }) => [...held.keys()]),
        )}::text::json) as answer`;
    assert.ok(row);
    const { answer } = row;

    const isLost = ({ id, worker }: Lease): boolean =>
      !model.leases.has(id) || worker !== choice.worker;
    assert.deepEqual(
      sortIds(answer.lost ?? []),
      sortIds(wholes.filter(isLost).map(({ id }) => id)),
    );
    settle(
      model,
      wholes
        .filter((lease) => !isLost(lease))
        .flatMap((lease) =>
          [...lease.open].map((id) => ({
            lease: lease.id,
            id,
            how: { outcome: "completed" } as const,
          })),
        ),
    );
    assert.deepEqual(
      answer.refused.map(String).sort(),
      settleAll(model, choice.worker, done, rest, answer).sort(),
    );
    if (choice.limit === 0) return;
    world.marks.set(choice.worker, answer.mark);
    took(
      model,
      {
        worker: choice.worker,
        types: choice.types,
        queues:
          queues ??
          except?.reduce(
            (all, name) => all.filter((one) => one !== name),
            [...world.queueIds.keys()],
          ),
        limit: choice.limit,
        leaseMs: choice.seconds * 1000,
        isMarked: mark !== undefined,
      },
      toRows(answer.jobs).map(
        (job): Claimed => ({
          lease_id: job[0],
          id: job[1],
          type: job[2],
          queue: job[3],
          priority: job[4],
          payload: job[5],
          tenant_id: job[6],
          attempt: job[7],
          max_retries: job[8],
        }),
      ),
    );
    // Who finds nothing looks for what others have lost.
    if (choice.limit > 0 && answer.jobs === null) rescue(model, choice.worker);
  },
);

/** A result for each job that only its own handler could have. */
function results(model: Model, ids: readonly string[]): string {
  return JSON.stringify(ids.map((id) => ({ nonce: model.jobs.get(id)?.nonce ?? "gone" })));
}

interface Item {
  readonly lease: string;
  readonly id: string;
}

function distinct<T extends Item>(items: readonly T[]): T[] {
  return [...new Map(items.map((item) => [`${item.lease},${item.id}`, item])).values()];
}

/** Settles in the model what is the worker's own; returns what must have been refused, as `lease,job`. */
function settleAll(
  model: Model,
  worker: string,
  done: readonly Item[],
  rest: readonly (Item & { how: Settlement })[],
  answer: AdvanceAnswer,
): string[] {
  const isOwn = ({ lease }: Item): boolean => model.leases.get(lease)?.worker === worker;
  const before = new Map(
    [...done, ...rest].map((item) => [
      item,
      isOwn(item) && model.leases.get(item.lease)?.open.has(item.id),
    ]),
  );
  const own = rest.map(isOwn);
  settle(
    model,
    done.filter(isOwn).map((item) => ({ ...item, how: { outcome: "completed" } as const })),
  );
  const refusedDone = done.filter(
    (item) => !before.get(item) && pastAnswer(model, item.lease, item.id, "completed") === null,
  );
  const settled = settle(
    model,
    rest.filter((_, index) => own[index]),
  );
  const statuses = own.map((isMine) => (isMine ? settled.shift() : undefined));
  const refusedRest = rest.filter(
    (item, index) =>
      statuses[index] === undefined &&
      pastAnswer(model, item.lease, item.id, item.how.outcome) === null,
  );
  for (const [index, item] of rest.entries()) {
    const status = statuses[index];
    if (status) assert.equal(answer.statuses[item.id], status);
  }
  return [...refusedDone, ...refusedRest].map(({ lease, id }) => `${lease},${id}`);
}

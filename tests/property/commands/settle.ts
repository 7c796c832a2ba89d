import assert from "node:assert/strict";
import fc from "fast-check";
import type { Model, Run, Status } from "../model.ts";
import { type Settlement, settle } from "../rules.ts";
import { anyOne, command, heldChoice, pickHeld, pickJob, type Steps } from "./command.ts";

export const completeJob: Steps = command(
  "complete_job",
  fc.record({ held: heldChoice, isLeaseNamed: fc.boolean() }),
  async (world, model, choice) => {
    const held = pickHeld(model, choice.held);
    if (!held) return;
    const [row] = await world.sql<{ done: boolean }[]>`
      select public.complete_job(${held.id}, ${JSON.stringify({ nonce: model.jobs.get(held.id)?.nonce ?? "gone" })}::text::jsonb, ${choice.isLeaseNamed ? held.lease : null}) as done`;

    const status = settleByJob(model, held, choice.isLeaseNamed, { outcome: "completed" });
    assert.equal(row?.done, status !== null);
  },
);

export const failJob: Steps = command(
  "fail_job",
  fc.record({
    held: heldChoice,
    isLeaseNamed: fc.boolean(),
    retryable: fc.constantFrom(true, true, true, false),
    seconds: fc.constantFrom(undefined, undefined, 0, 5),
  }),
  async (world, model, choice) => {
    const held = pickHeld(model, choice.held);
    if (!held) return;
    const [row] = await world.sql<{ status: string | null }[]>`
      select public.fail_job(${held.id}, 'it did not work', ${choice.retryable}, ${choice.seconds ?? null},
        ${choice.isLeaseNamed ? held.lease : null}) as status`;

    const how: Settlement = {
      outcome: "failed",
      retryable: choice.retryable,
      delayMs: choice.seconds === undefined ? undefined : choice.seconds * 1000,
    };
    assert.equal(row?.status, settleByJob(model, held, choice.isLeaseNamed, how));
  },
);

/** A job that nobody holds can't be settled without a lease. */
export const settleUnheld: Steps = command("settle unheld", anyOne, async (world, model, n) => {
  const job = pickJob(model, n, (one) => one.status !== "processing");
  const [row] = await world.sql<{ done: boolean; status: string | null }[]>`
    select public.complete_job(${job?.id ?? "77"}) as done, public.fail_job(${job?.id ?? "77"}) as status`;

  assert.deepEqual({ ...row }, { done: false, status: null });
});

export const settleOne: Steps = command(
  "settle_one",
  fc.record({ held: heldChoice, how: settlement() }),
  async (world, model, { held: which, how }) => {
    const held = pickHeld(model, which);
    if (!held) return;
    const [row] = await world.sql<{ status: string | null }[]>`
      select queue.settle_one(${held.lease}, ${held.id}, ${how.outcome}, ${detail(how)}::text::jsonb) as status`;

    const [status] = settle(model, [{ ...held, how }]);
    assert.equal(row?.status, status ?? null);
  },
);

export function settlement(): fc.Arbitrary<Settlement> {
  const delayMs = fc.constantFrom(0, 2500, 90_000);
  return fc.oneof(
    fc.record({ outcome: fc.constant("failed" as const), retryable: fc.boolean() }),
    fc.record({ outcome: fc.constant("snoozed" as const), delayMs }),
    fc.record({ outcome: fc.constantFrom("released" as const, "discarded" as const) }),
    fc.record({ outcome: fc.constantFrom("cancelled" as const, "completed" as const) }),
  );
}

/** What a settlement tells beside its outcome, as JSON. */
export function detail(how: Settlement): string {
  return JSON.stringify({
    error: how.outcome === "failed" ? { name: "Error", message: "no luck" } : undefined,
    retryable: how.retryable,
    delay_ms: how.delayMs,
    reason: how.outcome === "snoozed" ? "not yet" : undefined,
  });
}

/** With a lease that is over: the answer it got before, if it asks for the same. */
function settleByJob(
  model: Model,
  { lease, id }: { lease: string; id: string },
  isLeaseNamed: boolean,
  how: Settlement,
): Status | null {
  const [status] = settle(model, [
    { lease: isLeaseNamed ? lease : (model.liveLease(id)?.id ?? "0"), id, how },
  ]);
  if (status) return status;
  return isLeaseNamed && how.outcome !== "snoozed"
    ? pastAnswer(model, lease, id, how.outcome)
    : null;
}

/** Leases under which an attempt ended, in the order of the trail. */
export function pastAnswer(
  model: Model,
  lease: string,
  id: string,
  outcome: string,
): Status | null {
  const run = runUnder(model, lease, id);
  return run?.outcome === (outcome === "discarded" ? "failed" : outcome) ? run.to : null;
}

function runUnder(model: Model, lease: string, id: string): Run | undefined {
  const leases = model.oldLeases.filter((old) => old.held.has(id));
  const ended = model.job(id).runs.filter((run) => run.from === null);
  const index = leases.findIndex((old) => old.id === lease);
  return leases[index]?.open.has(id) ? undefined : ended[index];
}

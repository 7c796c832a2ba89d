import assert from "node:assert/strict";
import fc from "fast-check";
import { maintainAll } from "../../support/maintenance.ts";
import { FINAL, type Model } from "../model.ts";
import { promote, rescue } from "../rules.ts";
import type { World } from "../world.ts";
import { command, type Steps } from "./command.ts";

const DAY_MS = 86_400_000;

export const passTime: Steps = command(
  "time passes",
  fc.constantFrom(1, 500, 1500, 5000, 31_000, 61_000, 61_000),
  async (world, model, ms) => {
    await world.advanceClock(ms);
    model.now += ms * 1000;
  },
);

export const passDays: Steps = command(
  "days pass",
  fc.constantFrom(1, 4, 9),
  async (world, model, days) => {
    await world.advanceClock(days * DAY_MS);
    model.now += days * DAY_MS * 1000;
  },
);

export const cleanup: Steps = command(
  "cleanup_stuck_jobs",
  fc.constant(null),
  async (world, model) => {
    const [row] = await world.sql<{ count: number }[]>`select public.cleanup_stuck_jobs() as count`;

    assert.equal(row?.count, rescue(model).length);
  },
);

export const maintain: Steps = command("maintain", fc.constant(null), async (world, model) => {
  const did = await maintainAll(world.sql);

  assert.deepEqual(did.failed, []);
  assert.equal(did.rescued, rescue(model).length);
  promote(model);
  if (did.partitions_dropped) await forgetDropped(world, model);
  for (const dead of [...model.deadLetters.values()]) {
    if (dead.failedAt < model.now - 90 * DAY_MS * 1000) model.deadLetters.delete(dead.id);
  }
  if (did.workers_pruned) await world.signIn();
});

/** Jobs that left with their partition must have ended long ago, and nothing that still waits may need them. */
async function forgetDropped(world: World, model: Model): Promise<void> {
  const left = await world.sql<{ id: string }[]>`select id::text from queue.jobs`;
  const ids = new Set(left.map(({ id }) => id));
  for (const job of [...model.jobs.values()]) {
    if (ids.has(job.id)) continue;
    assert.ok(FINAL.includes(job.status), `${job.id} was dropped while it was ${job.status}`);
    assert.equal(model.openParents(job.id), 0);
    model.jobs.delete(job.id);
    for (const [key, id] of model.keys) if (id === job.id) model.keys.delete(key);
  }
}

import fc from "fast-check";
import { compare } from "../compare.ts";
import { byId, type Job, type Model, pick } from "../model.ts";
import type { World } from "../world.ts";

/** One kind of step: what may be chosen at random, and what to do to the world and to the model with it. */
export type Steps = fc.Arbitrary<fc.AsyncCommand<Model, World>>;

export function command<Choice>(
  name: string,
  choices: fc.Arbitrary<Choice>,
  run: (world: World, model: Model, choice: Choice) => Promise<void>,
): Steps {
  return choices.map((choice) => ({
    check: () => true,
    async run(model, world) {
      await run(world, model, choice);
      await compare(model, world);
      world.steps += 1;
    },
    toString: () => `${name}(${JSON.stringify(choice)})`,
  }));
}

/** A number that picks an element of a list which is not known yet. */
export const anyOne: fc.Arbitrary<number> = fc.nat(1000);

export function pickJob(
  model: Model,
  n: number,
  where: (job: Job) => boolean = () => true,
): Job | undefined {
  return pick([...model.jobs.values()].filter(where), n);
}

/** A lease and one of its jobs, alive or long lost; live ones are picked more often. */
export function pickHeld(
  model: Model,
  { n, late }: { n: number; late: boolean },
): { lease: string; id: string } | undefined {
  const leases = late || model.leases.size === 0 ? model.oldLeases : [...model.leases.values()];
  const held = leases.flatMap((lease) => {
    const ids = late ? [...lease.held.keys()] : [...lease.open];
    return ids.filter((id) => model.jobs.has(id)).map((id) => ({ lease: lease.id, id }));
  });
  return pick(held, n);
}

export const heldChoice: fc.Arbitrary<{ n: number; late: boolean }> = fc.record({
  n: anyOne,
  late: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
});

export function sortIds(ids: Iterable<string>): string[] {
  return [...ids].sort(byId);
}

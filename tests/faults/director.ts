import { setTimeout as delay } from "node:timers/promises";
import type { Kind, Scene } from "./kinds/scene.ts";

export interface Direction {
  /** How often each kind struck. */
  readonly counts: ReadonlyMap<string, number>;
  /** Faults that the campaign itself could not make as it wanted. */
  readonly troubles: readonly string[];
}

/** Lets faults happen at random, several at a time, until the time is over and the last has passed. */
export async function direct(
  scene: Scene,
  kinds: readonly Kind[],
  options: {
    readonly forMs: number;
    readonly pauseMs: number;
    readonly onFault: (name: string) => void;
  },
): Promise<Direction> {
  const { random } = scene;
  const counts = new Map(kinds.map(({ name }) => [name, 0]));
  const troubles: string[] = [];
  const underWay = new Set<Promise<void>>();
  const deadline = Date.now() + options.forMs;
  let isServerStruck = false;

  async function strike(kind: Kind): Promise<void> {
    const from = Date.now();
    if (kind.isOfServer) isServerStruck = true;
    try {
      options.onFault(kind.name);
      if (await kind.strike(scene)) counts.set(kind.name, (counts.get(kind.name) ?? 0) + 1);
    } catch (error) {
      // The server that it wanted to strike is away because of another fault.
      troubles.push(`${kind.name}: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      if (kind.isOfServer) {
        isServerStruck = false;
        scene.cutOff(undefined, from);
      }
    }
  }

  while (Date.now() < deadline) {
    await delay(options.pauseMs * (0.4 + 1.2 * random()));
    const kind = choose(kinds, random);
    if (kind.isOfServer && isServerStruck) continue;
    const one = strike(kind).finally(() => underWay.delete(one));
    underWay.add(one);
  }
  await Promise.all(underWay);
  return { counts, troubles };
}

function choose(kinds: readonly Kind[], random: () => number): Kind {
  let point = random() * kinds.reduce((sum, { weight }) => sum + weight, 0);
  for (const kind of kinds) {
    point -= kind.weight;
    if (point <= 0) return kind;
  }
  return kinds[0] as Kind;
}

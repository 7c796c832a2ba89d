import { setTimeout as delay } from "node:timers/promises";
import type { FaultyProxy } from "../../support/faulty-proxy.ts";
import type { Disk } from "../disk.ts";
import type { Fleet } from "../fleet.ts";
import type { Network } from "../network.ts";
import { pick, type Random } from "../plan.ts";
import type { Servers } from "../servers.ts";

/** All that faults can strike. */
export interface Scene {
  /** Notes that a way, or all of them, led nowhere from then until now. */
  cutOff(way: FaultyProxy | undefined, from: number): void;
  readonly random: Random;
  readonly leaseMs: number;
  readonly servers: Servers;
  readonly network: Network;
  readonly fleet: Fleet;
  readonly disk: Disk;
}

/** One kind of fault. */
export interface Kind {
  readonly name: string;
  /** How often it comes, compared with others. */
  readonly weight: number;
  /** Of those that need the server for themselves only one is under way at a time. */
  readonly isOfServer?: boolean;
  /** Makes it happen and lets it pass; answers whether there was anything to strike. */
  strike(scene: Scene): Promise<boolean>;
}

/** A time from half the lease to twice the lease: some faults are noticed and some are not. */
export function aWhile({ random, leaseMs }: Scene): Promise<void> {
  return delay(leaseMs * (0.3 + 1.7 * random() ** 2));
}

/** Mostly one way, now and then all of them. */
export function someWays({ random, network }: Scene): readonly FaultyProxy[] {
  return random() < 0.15 ? network.proxies : [pick(random, network.proxies)];
}

import type { Kind, Scene } from "./scene.ts";

function anyone({ random, fleet }: Scene): number {
  return Math.floor(random() * fleet.members.length);
}

export const PROCESS_KINDS: readonly Kind[] = [
  {
    name: "kill -9",
    weight: 12,
    async strike(scene) {
      await scene.fleet.kill(anyone(scene));
      return true;
    },
  },
  {
    name: "SIGTERM",
    weight: 6,
    async strike(scene) {
      await scene.fleet.terminate(anyone(scene));
      return true;
    },
  },
  {
    name: "SIGSTOP longer than the lease",
    weight: 5,
    async strike(scene) {
      await scene.fleet.freeze(anyone(scene), scene.leaseMs * (1.2 + scene.random()));
      return true;
    },
  },
];

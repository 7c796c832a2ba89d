import type { FatalMessage, FaultyProxy, Strikes } from "../../support/faulty-proxy.ts";
import { aWhile, type Kind, type Scene, someWays } from "./scene.ts";

/** What Supavisor says of its own faults. */
const POOLER_FAULT: FatalMessage = { code: "XX000", message: "Database connection closed" };

/** Strikes connections that are open now; counts if there was one. */
function once(
  name: string,
  weight: number,
  strike: (proxy: FaultyProxy, half: Strikes) => number,
): Kind {
  return {
    name,
    weight,
    async strike(scene) {
      const offset = scene.random() < 0.5 ? 0 : 1;
      const half: Strikes = (index) => index % 2 === offset;
      let struck = 0;
      for (const proxy of someWays(scene)) struck += strike(proxy, half);
      return struck > 0;
    },
  };
}

/** Lasts for a while. */
function lasting(
  name: string,
  weight: number,
  begin: (proxy: FaultyProxy, scene: Scene) => unknown,
  end: (proxy: FaultyProxy) => unknown,
): Kind {
  return {
    name,
    weight,
    async strike(scene) {
      const ways = someWays(scene);
      const from = Date.now();
      for (const proxy of ways) await begin(proxy, scene);
      await aWhile(scene);
      for (const proxy of ways) {
        await end(proxy);
        scene.cutOff(proxy, from);
      }
      return true;
    },
  };
}

export const CONNECTION_KINDS: readonly Kind[] = [
  once("all connections cut (RST)", 4, (proxy) => proxy.reset()),
  once("half of the connections cut (RST)", 5, (proxy, half) => proxy.reset(half)),
  once("half of the connections ended (FIN)", 5, (proxy, half) => proxy.end(half)),
  once("reply lost", 12, (proxy) => proxy.loseReplies()),
  once("pooler's XX000 instead of the request", 4, (proxy, half) =>
    proxy.failRequests(POOLER_FAULT, half),
  ),
  once("pooler's XX000 instead of the reply", 4, (proxy, half) =>
    proxy.failReplies(POOLER_FAULT, half),
  ),
  once("old connections silent (half-open)", 6, (proxy) => proxy.swallow()),
  lasting(
    "all connections silent",
    4,
    (proxy) => {
      proxy.swallow();
      proxy.swallowNew(true);
    },
    (proxy) => proxy.swallowNew(false),
  ),
  lasting(
    "stalled",
    5,
    (proxy) => proxy.stall(),
    (proxy) => proxy.resume(),
  ),
  lasting(
    "delayed",
    4,
    (proxy, { random }) => proxy.delay(20 + 300 * random()),
    (proxy) => proxy.delay(0),
  ),
  lasting(
    "refused",
    4,
    async (proxy) => {
      await proxy.refuse(true);
      proxy.reset();
    },
    (proxy) => proxy.refuse(false),
  ),
  lasting(
    "pooler's XX000 for new connections",
    3,
    (proxy) => {
      proxy.failNew(POOLER_FAULT);
      proxy.reset();
    },
    (proxy) => proxy.failNew(undefined),
  ),
];

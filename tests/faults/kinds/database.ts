import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { aWhile, type Kind, type Scene } from "./scene.ts";

export const DATABASE_KINDS: readonly Kind[] = [
  {
    name: "backends terminated",
    weight: 8,
    strike: (scene) => signalBackends(scene, "pg_terminate_backend"),
  },
  {
    name: "statements cancelled",
    weight: 4,
    strike: (scene) => signalBackends(scene, "pg_cancel_backend"),
  },
  {
    name: "operator cancels, retries, redrives",
    weight: 5,
    async strike({ servers }) {
      await servers.asSuperuser(
        (sql) => sql`
          select
            (select public.cancel_job(max(id), 'not wanted') from queue.jobs),
            (select public.cancel_job(job_ids[1], 'not wanted') from queue.leases order by random() limit 1),
            (select public.retry_job(id, 'once more') from queue.scheduled order by random() limit 1),
            (select count(*) from public.redrive_jobs(p_limit => 3))`,
      );
      return true;
    },
  },
  {
    name: "PgBouncer ended and started",
    weight: 4,
    async strike({ network }) {
      await network.restartPooler();
      return true;
    },
  },
  {
    name: "Postgres crash",
    weight: 4,
    isOfServer: true,
    async strike({ servers }) {
      await servers.crash();
      return true;
    },
  },
  {
    name: "connections used up",
    weight: 2,
    isOfServer: true,
    strike: useUpConnections,
  },
  {
    name: "disk full",
    weight: 2,
    isOfServer: true,
    async strike(scene) {
      if (scene.disk.unfillable !== undefined) return false;
      const clear = await scene.disk.fill();
      try {
        await aWhile(scene);
      } finally {
        await clear();
        scene.servers.crashes.push(Date.now());
        await scene.servers.ensure();
      }
      return true;
    },
  },
];

/** With a standby. */
export const STANDBY_KINDS: readonly Kind[] = [
  takeOver("switchover", 2, async ({ servers }, onDeath) =>
    servers.takeOver({ kind: "switchover" }, onDeath),
  ),
  takeOver("failover, standby in step", 2, async ({ servers }, onDeath) =>
    servers.takeOver({ kind: "in step" }, onDeath),
  ),
  takeOver("failover, standby behind", 3, async ({ servers, random }, onDeath) =>
    servers.takeOver({ kind: "lagging", lagMs: 200 + 4_800 * random() }, onDeath),
  ),
  takeOver("failover, synchronous standby", 1, async ({ servers, random }, onDeath) => {
    await servers.waitForStandby(true);
    await delay(1_000);
    await servers.takeOver({ kind: "synchronous", lagMs: 1_500 * random() }, onDeath);
  }),
  {
    name: "synchronous standby gone and back",
    weight: 2,
    isOfServer: true,
    async strike(scene) {
      const { servers } = scene;
      try {
        await servers.waitForStandby(true);
        servers.wal?.stall();
        await aWhile(scene);
      } finally {
        servers.wal?.resume();
        await servers.waitForStandby(false);
      }
      return true;
    },
  },
];

function takeOver(
  name: string,
  weight: number,
  strike: (scene: Scene, onDeath: () => void) => Promise<void>,
): Kind {
  return {
    name,
    weight,
    isOfServer: true,
    async strike(scene) {
      const { random, network, servers } = scene;
      // A machine that loses its power ends no connection.
      const isSilent = random() < 0.5;
      await strike(scene, () => {
        for (const proxy of network.proxies) {
          if (isSilent) proxy.swallow();
          else proxy.reset();
        }
      });
      await servers.refill();
      return true;
    },
  };
}

async function signalBackends(
  { random, servers }: Scene,
  how: "pg_terminate_backend" | "pg_cancel_backend",
): Promise<boolean> {
  const share = random() < 0.2 ? 1 : 0.4;
  const rows = await servers.asSuperuser((sql) =>
    sql.unsafe(
      `select ${how}(pid) from pg_stat_activity
       where usename = 'postgres' and backend_type = 'client backend' and random() < ${share}`,
    ),
  );
  return rows.length > 0;
}

/** As many sessions as the server takes, held for a while. */
async function useUpConnections(scene: Scene): Promise<boolean> {
  const clients: pg.Client[] = [];
  try {
    for (let isRefused = false; !isRefused && clients.length < 300; ) {
      const client = new pg.Client({ connectionString: scene.servers.url() });
      client.on("error", () => undefined);
      await client.connect().then(
        () => clients.push(client),
        () => {
          isRefused = true;
        },
      );
    }
    await aWhile(scene);
  } finally {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
  }
  return clients.length > 0;
}

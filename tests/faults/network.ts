import { withDatabaseName } from "../support/connect.ts";
import { type FaultyProxy, startFaultyProxy } from "../support/faulty-proxy.ts";
import { type Bouncer, launchPgBouncer } from "../support/pgbouncer.ts";
import { MIGRATOR } from "../support/prepare-cluster.ts";
import { DATABASE, type Servers } from "./servers.ts";

/** The ways from workers and producers to the database: a proxy for each of them, and a pooler behind some. */
export interface Network {
  readonly proxies: readonly FaultyProxy[];
  /** Adds a way and answers the URL of its end; with `isPooled` it leads through PgBouncer. */
  add(isPooled: boolean): Promise<string>;
  /** Ends PgBouncer and starts another. */
  restartPooler(): Promise<void>;
  /** All ways are good again; what fell silent is given up on the server's side, as its keep-alive would in time. */
  heal(): Promise<void>;
  close(): Promise<void>;
}

export async function startNetwork(servers: Servers): Promise<Network> {
  const direct: FaultyProxy[] = [];
  const pooled: FaultyProxy[] = [];
  // PgBouncer is not told where the primary is: it goes through a way of its own.
  const behind = await startFaultyProxy(servers.url());
  let bouncer: Bouncer | undefined;
  servers.onMove((url) => {
    for (const proxy of [...direct, behind]) proxy.retarget(url);
  });

  async function startPooler(): Promise<Bouncer> {
    const { password } = new URL(servers.url());
    const started = await launchPgBouncer({
      database: `${DATABASE} = host=127.0.0.1 port=${behind.port} dbname=${DATABASE}`,
      users: [MIGRATOR],
      password,
      settings: {
        default_pool_size: 12,
        server_login_retry: 1,
        server_connect_timeout: 3,
        query_wait_timeout: 20,
        tcp_keepidle: 5,
      },
    });
    for (const proxy of pooled) proxy.retarget(poolerUrl(started));
    return started;
  }

  const poolerUrl = ({ port }: Bouncer): string => {
    const url = new URL(withDatabaseName(servers.url(), DATABASE, MIGRATOR));
    url.port = String(port);
    return url.href;
  };

  return {
    get proxies() {
      return [...direct, ...pooled, behind];
    },
    async add(isPooled) {
      bouncer ??= isPooled ? await startPooler() : undefined;
      const target = isPooled && bouncer ? poolerUrl(bouncer) : servers.url();
      const proxy = await startFaultyProxy(target);
      (isPooled ? pooled : direct).push(proxy);
      return proxy.through(servers.url());
    },
    async restartPooler() {
      await bouncer?.stop();
      bouncer = await startPooler();
    },
    async heal() {
      for (const proxy of [...direct, ...pooled, behind]) {
        proxy.resume();
        proxy.swallowNew(false);
        proxy.delay(0);
        proxy.failNew(undefined);
        await proxy.refuse(false);
        proxy.buryDead();
      }
    },
    async close() {
      await bouncer?.stop();
      for (const proxy of [...direct, ...pooled, behind]) await proxy.close();
    },
  };
}

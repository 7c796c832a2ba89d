import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { connect, type TestSql, withDatabaseName } from "../support/connect.ts";
import { eventually } from "../support/eventually.ts";
import { type FaultyProxy, startFaultyProxy } from "../support/faulty-proxy.ts";
import { MIGRATOR, TEMPLATE } from "../support/prepare-cluster.ts";
import { type Cluster, copyCluster, makeCluster } from "./cluster.ts";

export const DATABASE = "faults";

/** A standby that took over. */
export interface Failover {
  readonly at: number;
  readonly kind: string;
  /** Acknowledgements after this may have been forgotten: the new primary had all that was acknowledged before. */
  readonly knownUntil: number;
}

export interface ServersOptions {
  readonly major: number;
  readonly folder: string;
  /** Whether there is a standby. */
  readonly hasStandby: boolean;
  readonly maxConnections: number;
}

/** How a standby takes over. */
export interface Takeover {
  readonly kind: "lagging" | "in step" | "synchronous" | "switchover";
  /** How long the standby has received nothing by then. */
  readonly lagMs?: number;
}

/** A primary and its standby, which change places. */
export interface Servers {
  readonly version: string;
  /** URL of the superuser to the campaign's database, on the primary of the moment. */
  superUrl(): string;
  /** The same of the role that applications use. */
  url(): string;
  readonly failovers: readonly Failover[];
  /** When the server crashed or changed: what was committed without waiting for the disk may be forgotten. */
  readonly crashes: number[];
  /** The way of the WAL to the standby. */
  readonly wal: FaultyProxy | undefined;
  /** Calls back when the primary is another one. */
  onMove(listener: (url: string) => void): void;
  crash(): Promise<void>;
  /** Starts what has ended by itself. */
  ensure(): Promise<void>;
  /** Whether commits wait for the standby; resolves when that holds. */
  waitForStandby(isOn: boolean): Promise<void>;
  /** The primary dies and its standby takes over; `onDeath` is called in between. */
  takeOver(takeover: Takeover, onDeath: () => void): Promise<void>;
  /** A new standby in place of the one that took over. */
  refill(): Promise<void>;
  /** Runs statements as superuser, on a connection of its own that waits for nobody. */
  asSuperuser<T>(work: (sql: TestSql) => Promise<T>): Promise<T>;
  /** The same with arrays as parameters, for when nothing fails any more. */
  asAuditor<T>(work: (sql: TestSql) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

const TICK_MS = 25;
/** Two clocks are read one after the other. */
const SLACK_MS = 2;

export async function startServers(options: ServersOptions): Promise<Servers> {
  const { major, folder, hasStandby } = options;
  const settings = {
    max_connections: options.maxConnections,
    superuser_reserved_connections: 6,
    wal_keep_size: "160MB",
    max_wal_size: "192MB",
    min_wal_size: "64MB",
    wal_receiver_timeout: "5s",
    wal_sender_timeout: "5s",
    wal_retrieve_retry_interval: "200ms",
    // So that a client that is gone for good, with a transaction open, is noticed.
    tcp_keepalives_idle: 5,
    log_min_messages: "fatal",
  };
  let generation = 1;
  let primary = await makeCluster({ folder: join(folder, "pg1"), major, settings });
  let standby: Cluster | undefined;
  await createDatabase(primary.superUrl);
  const wal = hasStandby ? await startFaultyProxy(primary.superUrl) : undefined;
  const listeners: ((url: string) => void)[] = [];
  const failovers: Failover[] = [];
  const crashes: number[] = [];
  const ticks = new Ticks(() => withDatabaseName(primary.superUrl, DATABASE));

  async function refill(): Promise<void> {
    if (!wal || standby) return;
    generation += 1;
    wal.retarget(primary.superUrl);
    const copy = join(folder, `pg${generation}`);
    standby = await copyCluster(primary, { folder: copy, major, settings, walPort: wal.port });
  }

  /** For one that can't go on, because what it misses is not kept any more. */
  async function replaceStandby(): Promise<void> {
    await standby?.remove();
    standby = undefined;
    await refill();
  }

  const asSuperuser = <T>(work: (sql: TestSql) => Promise<T>): Promise<T> =>
    withSql(withDatabaseName(primary.superUrl, DATABASE), work);

  await refill();
  ticks.start();
  return {
    version: primary.version,
    superUrl: () => withDatabaseName(primary.superUrl, DATABASE),
    url: () => withDatabaseName(primary.superUrl, DATABASE, MIGRATOR),
    failovers,
    crashes,
    wal,
    onMove: (listener) => void listeners.push(listener),
    async crash() {
      crashes.push(Date.now());
      await primary.stop("immediate");
      await primary.start();
      crashes.push(Date.now());
    },
    async ensure() {
      await primary.start();
      await standby?.start().catch(() => replaceStandby());
    },
    async waitForStandby(isOn) {
      await asSuperuser(async (sql) => {
        await sql.unsafe(`alter system set synchronous_standby_names = '${isOn ? "standby" : ""}'`);
        await sql`select pg_reload_conf()`;
        await eventually(async () => {
          const [row] = await sql`
            select current_setting('synchronous_standby_names') as names,
              exists (select from pg_stat_replication where sync_state = 'sync') as is_there`;
          return isOn ? row?.["is_there"] === true : row?.["names"] === "";
        });
      });
    },
    async takeOver({ kind, lagMs = 0 }, onDeath) {
      if (!standby || !wal) throw new Error("there is no standby");
      const [from, to] = [primary, standby];
      if (kind === "lagging") {
        wal.stall();
        await delay(lagMs);
      } else {
        await caughtUp(from, to).catch(async (error: unknown) => {
          await replaceStandby();
          throw error;
        });
        if (kind === "synchronous") {
          wal.stall();
          await delay(lagMs);
        }
      }
      await ticks.stop();
      crashes.push(Date.now());
      await from.stop(kind === "switchover" ? "fast" : "immediate");
      onDeath();
      // What was held on the way never arrives.
      wal.reset();
      wal.resume();
      await withSql(to.superUrl, (sql) => sql`select pg_promote(true, 60)`);
      await eventually(() =>
        withSql(to.superUrl, async (sql) => {
          const [row] = await sql`select pg_is_in_recovery() as is_standby`;
          return row?.["is_standby"] === false;
        }),
      );
      primary = to;
      standby = undefined;
      crashes.push(Date.now());
      const isSafe = kind === "switchover" || kind === "synchronous";
      const knownUntil = isSafe ? Number.POSITIVE_INFINITY : await ticks.knownUntil();
      failovers.push({ at: Date.now(), kind, knownUntil });
      for (const listener of listeners) listener(to.superUrl);
      ticks.start();
      await from.remove();
    },
    refill,
    asSuperuser,
    asAuditor: (work) => withSql(withDatabaseName(primary.superUrl, DATABASE), work, {}),
    async close() {
      await ticks.stop();
      await wal?.close();
      await standby?.remove();
      await primary.remove();
    },
  };
}

async function createDatabase(superUrl: string): Promise<void> {
  await withSql(superUrl, (sql) =>
    sql.unsafe(`create database ${DATABASE} template ${TEMPLATE} owner ${MIGRATOR}`),
  );
  await withSql(withDatabaseName(superUrl, DATABASE, MIGRATOR), (sql) =>
    sql.unsafe(`
      create table public.ledger (job_id bigint not null, nonce text not null, attempt integer not null);
      create table public.tick (n integer primary key)`),
  );
}

async function caughtUp(from: Cluster, to: Cluster): Promise<void> {
  const [row] = await withSql(
    from.superUrl,
    (sql) => sql`select pg_current_wal_flush_lsn()::text as lsn`,
  );
  const written = String(row?.["lsn"]);
  await eventually(
    () =>
      withSql(to.superUrl, async (sql) => {
        const [there] =
          await sql`select pg_last_wal_receive_lsn() >= ${written}::pg_lsn as is_there`;
        return there?.["is_there"] === true;
      }),
    { timeoutMs: 30_000, intervalMs: 50 },
  );
}

/** postgres.js (3.4) looks for types on each new connection, and rejects a promise that nobody holds when that breaks. */
const WITHOUT_TYPES = { fetch_types: false };

async function withSql<T>(
  url: string,
  work: (sql: TestSql) => Promise<T>,
  options: { readonly fetch_types?: boolean } = WITHOUT_TYPES,
): Promise<T> {
  const sql = connect(url, { max: 1, connect_timeout: 5, ...options });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/**
 * A row that is written again and again, by which one sees how much of the past a standby had when it took over: WAL arrives in its
 * order, so with a tick it has everything that was acknowledged before the tick was sent.
 */
class Ticks {
  readonly #url: () => string;
  readonly #sentAt: number[] = [];
  #running: Promise<void> | undefined;
  #isStopping = false;

  constructor(url: () => string) {
    this.#url = url;
  }

  start(): void {
    this.#isStopping = false;
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running;
  }

  /** Milliseconds of the epoch; all that was acknowledged before is in the database now. */
  async knownUntil(): Promise<number> {
    const [row] = await withSql(this.#url(), (sql) => sql`select max(n) as n from public.tick`);
    const last = row?.["n"];
    return typeof last === "number" ? (this.#sentAt[last] ?? 0) - SLACK_MS : 0;
  }

  async #run(): Promise<void> {
    let sql = connect(this.#url(), { max: 1, connect_timeout: 3, ...WITHOUT_TYPES });
    while (!this.#isStopping) {
      const n = this.#sentAt.push(Date.now()) - 1;
      // While the server is away, or waits for a synchronous standby, there is no tick.
      const written = sql`insert into public.tick (n) values (${n})`.then(
        () => true,
        () => false,
      );
      if (!(await Promise.race([written, delay(2_000, false, { ref: false })]))) {
        await sql.end({ timeout: 0 });
        sql = connect(this.#url(), { max: 1, connect_timeout: 3, ...WITHOUT_TYPES });
      }
      await delay(TICK_MS);
    }
    await sql.end({ timeout: 1 });
  }
}

import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { FaultyProxy } from "../support/faulty-proxy.ts";
import { spawnScript, type TestProcess } from "../support/processes.ts";
import { type Audit, audit } from "./audit.ts";
import { readBooks } from "./books.ts";
import { count } from "./count.ts";
import { direct } from "./director.ts";
import { type Disk, makeDisk } from "./disk.ts";
import type { CutOff } from "./ends.ts";
import { type Fleet, type Member, startFleet } from "./fleet.ts";
import { CONNECTION_KINDS } from "./kinds/connections.ts";
import { DATABASE_KINDS, STANDBY_KINDS } from "./kinds/database.ts";
import { PROCESS_KINDS } from "./kinds/processes.ts";
import type { Kind } from "./kinds/scene.ts";
import { type Network, startNetwork } from "./network.ts";
import { randomFrom } from "./plan.ts";
import { comeToRest, findStuckWorkers } from "./rest.ts";
import { type Servers, startServers } from "./servers.ts";

export interface FaultOptions {
  readonly major: number;
  readonly seed: number;
  /** How long faults happen. */
  readonly forMs: number;
  /** Mean time between two faults. */
  readonly pauseMs: number;
  readonly leaseMs: number;
  /** Jobs a minute that do nothing, besides those of the other producers. */
  readonly bulkPerMinute: number;
  /** Names of workers and producers that take part, as in `MEMBERS` and `PRODUCERS`. @default all */
  readonly workers?: readonly string[];
  readonly producers?: readonly string[];
  /** Without a standby there are no failovers. */
  readonly hasStandby: boolean;
  /** Kinds of faults that are left out. */
  readonly without?: readonly string[];
  readonly onProgress?: (line: string) => void;
}

export interface FaultReport extends Audit {
  readonly seed: number;
  readonly postgres: string;
  readonly began: string;
  readonly ms: number;
  readonly faultsStruck: number;
  readonly byKind: Readonly<Record<string, number>>;
  /** Kinds that could not be, with the reason. */
  readonly leftOut: readonly string[];
  /** Faults that the campaign itself could not make as it wanted. */
  readonly troubles: readonly string[];
  readonly restMs: number;
  readonly longestStopMs: number;
  readonly driverFaultsInProducers: number;
}

type Way = Omit<Member, "url">;

export const MEMBERS: readonly Way[] = [
  { name: "connect", way: "connect", runtime: "node" },
  { name: "deno", way: "connect", runtime: "deno" },
  { name: "pool", way: "pool", runtime: "node" },
  { name: "postgres", way: "postgres", runtime: "node" },
  { name: "pooled", way: "pooled", runtime: "node" },
  { name: "plain", way: "sql", runtime: "node" },
];
export const PRODUCERS: readonly (readonly [name: string, way: string])[] = [
  ["p-connect", "connect"],
  ["p-pool", "pool"],
  ["p-postgres", "postgres"],
  ["p-pooled", "pooled"],
  ["p-sql", "sql"],
  ["p-shuffled", "shuffled"],
];

/** Beyond the lease: reconnecting, a sweep that comes every few seconds, retries, and a machine that has other things to do. */
const REST_MARGIN_MS = 30_000;
const STUCK_MS = 45_000;
/** Calls that were under way when the producers were to end. */
const LAST_CALLS_MS = 60_000;

interface Stage {
  readonly disk: Disk;
  readonly servers: Servers;
  readonly network: Network;
}

/** Lets everything fail at random while jobs run, then nothing more, waits until all has come to rest by itself, and counts. */
export async function runFaultCampaign(options: FaultOptions): Promise<FaultReport> {
  const disk = await makeDisk();
  await chmod(disk.folder, 0o711);
  try {
    const { major, hasStandby } = options;
    const servers = await startServers({
      major,
      folder: disk.data,
      hasStandby,
      maxConnections: 110,
    });
    try {
      const network = await startNetwork(servers);
      try {
        return await play(options, { disk, servers, network });
      } finally {
        await network.close();
      }
    } finally {
      await servers.close();
    }
  } finally {
    await disk.remove();
  }
}

async function play(options: FaultOptions, stage: Stage): Promise<FaultReport> {
  const { leaseMs, seed, onProgress = () => undefined } = options;
  const { disk, servers, network } = stage;
  const { folder } = disk;
  const random = randomFrom(seed);
  const members = await Promise.all(
    MEMBERS.filter(({ name }) => options.workers?.includes(name) ?? true).map(async (member) => ({
      ...member,
      url: await network.add(member.way === "pooled"),
    })),
  );
  const producers = await startProducers(options, network, folder);
  const fleet = await startFleet({ members, folder, leaseMs });
  const startedAt = Date.now();
  const kinds: Kind[] = [
    ...PROCESS_KINDS,
    ...CONNECTION_KINDS,
    ...DATABASE_KINDS,
    ...(options.hasStandby ? STANDBY_KINDS : []),
  ].filter(({ name }) => !options.without?.includes(name));
  let faults = 0;
  const cutOffs: CutOff[] = [];
  const cutOff = (way: FaultyProxy | undefined, from: number): void => {
    const member = members.find(({ url }) => way && Number(new URL(url).port) === way.port)?.name;
    if (!way || member !== undefined) cutOffs.push({ member, from, to: Date.now() });
  };
  const scene = { random, leaseMs, servers, network, fleet, disk, cutOff };
  const direction = await direct(scene, kinds, {
    forMs: options.forMs,
    pauseMs: options.pauseMs,
    onFault: (name) => {
      faults += 1;
      onProgress(`${Math.round((Date.now() - startedAt) / 1000)} s, fault ${faults}: ${name}`);
    },
  });
  await network.heal();
  await servers.ensure();
  onProgress("the faults are over");
  const wrongs = await endProducers(producers);
  const rest = await comeToRest(servers, leaseMs + REST_MARGIN_MS);
  onProgress(`at rest after ${rest.ms} ms`);
  const stuck = await findStuckWorkers(servers, members, STUCK_MS);
  await fleet.stop();
  return await judge(options, { stage, fleet, direction, startedAt, rest, cutOffs }, [
    ...wrongs,
    ...(rest.open === undefined
      ? []
      : [`jobs were still open ${rest.ms} ms after the faults: ${rest.open}`]),
    ...stuck,
    ...fleet.wrongs,
  ]).then((report) => ({
    ...report,
    driverFaultsInProducers: producers.output().split("driver fault").length - 1,
  }));
}

async function startProducers(
  { seed, leaseMs, bulkPerMinute, producers: chosen }: FaultOptions,
  network: Network,
  folder: string,
): Promise<TestProcess> {
  const ways = await Promise.all(
    PRODUCERS.filter(([name]) => chosen?.includes(name) ?? true).map(
      async ([name, way]) => `${name}=${way}=${await network.add(way === "pooled")}`,
    ),
  );
  const started = spawnScript(new URL("./producers.fixture.ts", import.meta.url), {
    args: [folder, String(seed + 1), String(leaseMs), String(bulkPerMinute), ...ways],
  });
  await started.waitFor("ready", { timeoutMs: 60_000 });
  return started;
}

async function endProducers(producers: TestProcess): Promise<string[]> {
  const late = delay(LAST_CALLS_MS, "late" as const, { ref: false });
  const exit = await Promise.race([producers.kill("SIGTERM"), late]);
  if (exit === "late") {
    await producers.kill("SIGKILL");
    return [`the producers did not come to their end within ${LAST_CALLS_MS} ms`];
  }
  if (exit.code === 0) return [];
  return [`the producers ended with ${JSON.stringify(exit)}: ${producers.output().slice(-1_500)}`];
}

interface Played {
  readonly stage: Stage;
  readonly fleet: Fleet;
  readonly direction: Awaited<ReturnType<typeof direct>>;
  readonly startedAt: number;
  readonly rest: Awaited<ReturnType<typeof comeToRest>>;
  readonly cutOffs: readonly CutOff[];
}

async function judge(
  { seed, leaseMs }: FaultOptions,
  { stage, fleet, direction, startedAt, rest, cutOffs }: Played,
  wrongs: readonly string[],
): Promise<Omit<FaultReport, "driverFaultsInProducers">> {
  const { disk, servers } = stage;
  const books = readBooks(join(disk.folder));
  const found = await servers.asAuditor((sql) =>
    audit(sql, books, { fleet, servers, cutOffs, leaseMs }),
  );
  const byKind = Object.fromEntries(direction.counts);
  return {
    seed,
    postgres: servers.version,
    began: new Date(startedAt).toISOString(),
    ms: Date.now() - startedAt,
    faultsStruck: Object.values(byKind).reduce((sum, n) => sum + n, 0),
    byKind,
    leftOut: disk.unfillable === undefined ? [] : [`disk full: ${disk.unfillable}`],
    troubles: direction.troubles,
    restMs: rest.ms,
    longestStopMs: fleet.longestStopMs,
    ...found,
    faults: [
      ...wrongs,
      ...count(books.stuck, "calls that did not return in time"),
      ...found.faults,
    ],
  };
}

// Millrace beside its peers:
//
//   npm run bench -- [--peers millrace,graphile-worker] [--loads drain,latency | all] [--rounds 5] [--jobs 100000]
//                    [--workers 1,4,10] [--postgres embedded] and more sizes, see below
//
// Rounds and peers are interleaved, every other round in the other order; each cell has a database of its own. One Markdown
// table per load with medians and ratios to graphile-worker; all figures as JSON in bench/results/.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "./build.ts";
import { knownLoads } from "./loads/known.ts";
import type { Case, Load, Sizes } from "./loads/load.ts";
import { describeMachine } from "./machine.ts";
import { knownPeers, type PeerUnderTest } from "./peers/known.ts";
import { startPostgres } from "./postgres.ts";
import { startRedis } from "./redis.ts";
import { Stage } from "./stage.ts";
import type { Store } from "./store.ts";
import { type Result, toTable } from "./table.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
/** What others are compared to; without it, the first peer. */
const BASELINE = "graphile-worker";

const { values: flags } = parseArgs({
  options: {
    peers: { type: "string", default: "millrace,graphile-worker" },
    loads: { type: "string", default: "drain" },
    rounds: { type: "string", default: "5" },
    jobs: { type: "string", default: "100000" },
    workers: { type: "string", default: "1,4,10" },
    bystanders: { type: "string", default: "1000000" },
    "beside-jobs": { type: "string", default: "20000" },
    samples: { type: "string", default: "2000" },
    tenants: { type: "string", default: "1000" },
    "idle-seconds": { type: "string", default: "30" },
    "soak-minutes": { type: "string", default: "10" },
    "background-rate": { type: "string", default: "0" },
    postgres: { type: "string", default: "system" },
  },
});

/** The named ones, or all, in the order they are known. */
function choose<T extends { readonly name: string }>(
  what: string,
  known: readonly T[],
  names: string,
): readonly T[] {
  if (names === "all") return known;
  return names.split(",").map((name) => {
    const found = known.find((candidate) => candidate.name === name);
    if (found) return found;
    throw new Error(
      `unknown ${what} ${name}; known: all, ${known.map((one) => one.name).join(", ")}`,
    );
  });
}

const peers = choose("peer", knownPeers, flags.peers);
const loads = choose("load", knownLoads, flags.loads);
const sizes: Sizes = {
  jobs: Number(flags.jobs),
  workers: flags.workers.split(",").map(Number),
  bystanders: Number(flags.bystanders),
  besideJobs: Number(flags["beside-jobs"]),
  samples: Number(flags.samples),
  tenants: Number(flags.tenants),
  idleSeconds: Number(flags["idle-seconds"]),
  soakMinutes: Number(flags["soak-minutes"]),
  backgroundRate: Number(flags["background-rate"]),
};

if (!existsSync(`${here}node_modules`)) {
  console.error("Installing the peers into bench/node_modules (once)");
  execFileSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: here, stdio: "inherit" });
}

build();
const results: Result[] = [];
const failures: string[] = [];

async function runCell(
  stores: ReadonlyMap<string, Store>,
  { load, of, peer, round }: { load: Load; of: Case; peer: PeerUnderTest; round: number },
): Promise<void> {
  const store = stores.get(peer.store);
  if (store === undefined) throw new Error(`no ${peer.store}`);
  const [loadBefore = Number.NaN] = loadavg();
  const what = `round ${round}  ${load.name}  ${of.label}  ${peer.name}`;
  try {
    const figures = await load.run((use) => Stage.with(peer, store, use), of, sizes);
    results.push({ load: load.name, case: of.label, peer: peer.name, round, loadBefore, figures });
    const [main] = load.columns;
    const value = figures[main.figure]?.toFixed(main.digits ?? 0);
    console.error(`${what}  ${value} ${main.title}  (load before ${loadBefore.toFixed(1)})`);
  } catch (error) {
    // The other cells are still worth having.
    failures.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
    console.error(failures.at(-1));
  }
}

async function runAll(stores: ReadonlyMap<string, Store>): Promise<void> {
  for (let round = 1; round <= Number(flags.rounds); round++) {
    for (const load of loads) {
      const able = peers.filter((peer) =>
        load.needs.every((need) => peer.abilities.includes(need)),
      );
      for (const of of load.cases(sizes)) {
        // Every other round in the other order, so that no peer always comes after the same one.
        for (const peer of round % 2 === 1 ? able : able.toReversed()) {
          await runCell(stores, { load, of, peer, round });
        }
      }
    }
  }
}

function report(stores: ReadonlyMap<string, Store>): void {
  const versions = [...stores.values()].map((store) => store.version);
  const machine = describeMachine(versions);
  console.log(`\n${JSON.stringify({ ...machine, sizes }, null, 2)}`);
  const baseline = peers.some(({ name }) => name === BASELINE) ? BASELINE : peers[0]?.name;
  console.log(`\nMedians; ratios to ${baseline}.`);
  for (const load of loads) {
    const own = results.filter((result) => result.load === load.name);
    if (own.length > 0) console.log(`\n${toTable(load, own, baseline ?? "")}`);
  }
  for (const failure of failures) console.log(`\nFailed: ${failure}`);
  mkdirSync(`${here}results`, { recursive: true });
  const name = `${new Date().toISOString().replaceAll(":", "-")}.json`;
  const text = JSON.stringify({ machine, sizes, results, failures }, null, 2);
  writeFileSync(`${here}results/${name}`, `${text}\n`);
  console.log(`\nwritten to bench/results/${name}`);
}

const stores = new Map<string, Store>();

async function stopStores(): Promise<void> {
  for (const [name, store] of stores) {
    stores.delete(name);
    await store.stop();
  }
}

// The servers outlive this process unless they are told to stop.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    void stopStores().finally(() => process.exit(130));
  });
}

try {
  if (peers.some(({ store }) => store === "postgres")) {
    stores.set(
      "postgres",
      await startPostgres(flags.postgres === "embedded" ? "embedded" : "system"),
    );
  }
  if (peers.some(({ store }) => store === "redis")) stores.set("redis", await startRedis());
  await runAll(stores);
  report(stores);
} finally {
  await stopStores();
}
process.exitCode = failures.length > 0 ? 1 : 0;

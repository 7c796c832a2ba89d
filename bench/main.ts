// Millrace beside its peers: npm run bench -- [--peers millrace,graphile-worker] [--jobs 100000] [--workers 1,4] [--rounds 5]
//
// Peers and rounds are interleaved on one Postgres; the table shows medians and ratios to graphile-worker.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type CellResult, drain, type PeerUnderTest } from "./cell.ts";
import { settings, startBenchServer } from "./postgres.ts";

const here = fileURLToPath(new URL(".", import.meta.url));

const known: readonly PeerUnderTest[] = [
  {
    name: "millrace",
    script: "./peers/millrace.ts",
    leftQuery:
      "select (select count(*) from queue.ready) + (select count(*) from queue.leases) + (select count(*) from queue.scheduled) as n",
    historyQuery: "select count(*) as n from queue.runs where outcome = 'completed'",
  },
  {
    name: "graphile-worker",
    script: "./peers/graphile-worker.ts",
    leftQuery: "select count(*) as n from graphile_worker.jobs",
    historyQuery: null,
  },
];

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : (high + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

function printTable(results: readonly CellResult[], baseline: string): void {
  const columns = [
    "peer",
    "workers",
    "jobs/s",
    "min..max",
    "ratio",
    "WAL B/job",
    "CPU s/1k",
    "rounds",
  ];
  console.log(`\n| ${columns.join(" | ")} |\n|${columns.map(() => " --- ").join("|")}|`);
  const cells = new Map<string, CellResult[]>();
  for (const result of results) {
    const key = `${result.peer} ${result.workers}`;
    cells.set(key, [...(cells.get(key) ?? []), result]);
  }
  const rate = (peer: string, workers: number): number =>
    median((cells.get(`${peer} ${workers}`) ?? []).map((cell) => cell.jobsPerSecond));
  for (const rows of cells.values()) {
    const [first] = rows;
    if (first === undefined) continue;
    const rates = rows.map((row) => row.jobsPerSecond);
    const ratio = rate(first.peer, first.workers) / rate(baseline, first.workers);
    console.log(
      `| ${[
        first.peer,
        first.workers,
        Math.round(median(rates)),
        `${Math.round(Math.min(...rates))}..${Math.round(Math.max(...rates))}`,
        Number.isNaN(ratio) ? "-" : ratio.toFixed(2),
        Math.round(median(rows.map((row) => row.walBytesPerJob))),
        median(rows.map((row) => row.workerCpuSecondsPer1000)).toFixed(3),
        rows.length,
      ].join(" | ")} |`,
    );
  }
}

const { values: flags } = parseArgs({
  options: {
    peers: { type: "string", default: "millrace,graphile-worker" },
    jobs: { type: "string", default: "100000" },
    workers: { type: "string", default: "1,4" },
    rounds: { type: "string", default: "5" },
    postgres: { type: "string", default: "system" },
  },
});
const peers = flags.peers.split(",").map((name) => {
  const peer = known.find((candidate) => candidate.name === name);
  if (peer === undefined)
    throw new Error(`unknown peer ${name}; known: ${known.map((p) => p.name).join(", ")}`);
  return peer;
});

if (!existsSync(`${here}node_modules`)) {
  console.error("Installing the peers into bench/node_modules (once)");
  execFileSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: here, stdio: "inherit" });
}

const server = await startBenchServer(flags.postgres === "embedded" ? "embedded" : "system");
const results: CellResult[] = [];
try {
  const node = execFileSync(`${here}node_modules/.bin/node`, ["--version"], {
    encoding: "utf8",
  }).trim();
  const machine = {
    cpu: cpus()[0]?.model ?? "?",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    postgres: server.version,
    settings,
    node,
  };
  console.log(JSON.stringify(machine));
  for (let round = 1; round <= Number(flags.rounds); round++) {
    for (const workers of flags.workers.split(",").map(Number)) {
      // Every other round in the other order, so that no peer always comes after the same one.
      for (const peer of round % 2 === 1 ? peers : peers.toReversed()) {
        const load = loadavg()[0]?.toFixed(1);
        const result = await drain(server, peer, { jobs: Number(flags.jobs), workers });
        results.push(result);
        console.log(
          `round ${round}  ${peer.name}  ${workers} worker(s)  ${Math.round(result.jobsPerSecond)} jobs/s  (load before ${load})`,
        );
      }
    }
  }
  printTable(results, "graphile-worker");
  mkdirSync(`${here}results`, { recursive: true });
  const file = `${here}results/${new Date().toISOString().replaceAll(":", "-")}.json`;
  writeFileSync(file, `${JSON.stringify({ machine, results }, null, 2)}\n`);
  console.log(`\nwritten to bench/results/${file.slice(file.lastIndexOf("/") + 1)}`);
} finally {
  await server.stop();
}

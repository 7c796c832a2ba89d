/** A worker process of the fault campaign, on Node or Deno, over one of the ways to connect. */
import { randomUUID } from "node:crypto";
import process from "node:process";
import { connect, isDriverFault } from "../../src/db/postgres-js.ts";
import { consoleLogger, createWorker, type Worker } from "../../src/index.ts";
import { openJournal } from "../support/journal.ts";
import { startSoon } from "../support/start-soon.ts";
import { makeHandlers, makeLastHandler } from "./handlers.ts";
import { lastType, PAIRS, SLOTS } from "./plan.ts";

const [, , member = "", way = "", url = "", folder = "", leaseMs = ""] = process.argv;

// As the command line does, and as docs/cli.md advises.
process.on("uncaughtException", (error: unknown, origin) => {
  if (isDriverFault(error)) return;
  console.error(origin, error);
  process.exit(1);
});

interface Handle {
  readonly sql: unknown;
  close(): Promise<void>;
}

async function open(): Promise<Handle> {
  if (way === "pool") {
    const { default: pg } = await import("pg");
    const pool = new pg.Pool({ connectionString: url, max: 8, connectionTimeoutMillis: 5_000 });
    pool.on("error", () => undefined);
    return { sql: pool, close: () => pool.end() };
  }
  if (way === "postgres") {
    const { default: postgres } = await import("postgres");
    // Without the look for types, of which postgres.js (3.4) rejects a promise that nobody holds when the connection breaks.
    const settings = { max: 8, connect_timeout: 5, fetch_types: false };
    const client = postgres(url, { ...settings, onnotice: () => undefined });
    return { sql: client, close: () => client.end({ timeout: 1 }) };
  }
  const sql = connect(url, { applicationName: member, pooled: way === "pooled" });
  return { sql, close: () => sql.close() };
}

const handle = await open();
const name = `${member} ${process.pid} ${randomUUID()}`;
const tools = {
  sql: handle.sql,
  worker: name,
  seen: openJournal(`${folder}/seen-${member}.jsonl`),
  told: openJournal(`${folder}/told-${member}.jsonl`),
  blocks: openJournal(`${folder}/blocked-${member}-${process.pid}.jsonl`),
};

function makeWorker(): Worker {
  return createWorker({
    sql: handle.sql,
    name,
    handlers: [...makeHandlers(tools), makeLastHandler(lastType(member), tools)],
    queues: { [PAIRS]: 4, "*": SLOTS },
    leaseMs: Number(leaseMs),
    pollIntervalMs: 300,
    shutdownTimeoutMs: 2_000,
    details: { pid: process.pid },
    logger: consoleLogger({ level: "error" }),
  });
}

let worker: Worker | undefined;
let isEnding = false;
process.once("SIGTERM", () => {
  isEnding = true;
  if (worker) void end(worker);
  else process.exit(0);
});

async function end(ending: Worker): Promise<void> {
  await ending.stop();
  await handle.close();
  process.exit(0);
}

worker = await startSoon(makeWorker);
console.log("ready");
if (isEnding) await end(worker);

/** A worker process of the crash campaign: it is killed, frozen and cut off while it works. */
import { setTimeout as delay } from "node:timers/promises";
import { connect, isDriverFault } from "../../src/db/postgres-js.ts";
import {
  consoleLogger,
  createWorker,
  discard,
  implement,
  implementBatch,
  snooze,
  type Worker,
} from "../../src/index.ts";
import { BULK, type Plan, WORK } from "./plan.ts";

// As the command line does, and as docs/cli.md advises.
process.on("uncaughtException", (error) => {
  if (isDriverFault(error)) return;
  console.error(error);
  process.exit(1);
});

const sql = connect(process.env["CRASH_DATABASE_URL"] ?? "", { applicationName: "crash-worker" });
const leaseMs = Number(process.env["CRASH_LEASE_MS"]);

async function perform(plan: Plan, attempt: number): Promise<void> {
  await delay(plan.ms);
  if (plan.stallMs > 0 && attempt === 1) block(plan.stallMs);
  if (attempt <= plan.failures) throw new Error(`planned failure ${attempt}`);
}

/** Nothing of this process moves meanwhile, its heartbeats included. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const work = implement(WORK, async ({ input, id, attempt, commitWith }) => {
  await perform(input, attempt.number);
  if (input.end === "discard") return discard("planned");
  if (input.end === "snooze" && Math.random() < 0.8) return snooze("200ms");
  if (input.hasEffect) {
    await commitWith(async (tx) => {
      await tx.query("insert into public.ledger (job_id, attempt) values ($1, $2)", [
        id,
        attempt.number,
      ]);
      return { worker: process.pid };
    });
  }
  return { worker: process.pid };
});

const bulk = implementBatch(
  BULK,
  async ({ jobs }) => {
    await delay(Math.max(...jobs.map(({ input }) => input.ms)));
    return jobs.map(({ input }) => (input.end === "discard" ? discard("planned") : { ok: true }));
  },
  { maxSize: 20 },
);

function makeWorker(): Worker {
  return createWorker({
    sql,
    handlers: [work, bulk],
    concurrency: 8,
    leaseMs,
    pollIntervalMs: 200,
    details: { pid: process.pid },
    logger: consoleLogger({ level: "error" }),
  });
}

/** The database may be away when a worker starts: then it is for the process to try again. */
async function startSoon(): Promise<Worker> {
  for (;;) {
    const worker = makeWorker();
    try {
      await worker.start();
      return worker;
    } catch {
      await delay(200);
    }
  }
}

const worker = await startSoon();
console.log("ready");
process.once("SIGTERM", () => {
  void worker.stop().then(async () => {
    await sql.close();
    process.exit(0);
  });
});

/** A worker process of the crash campaign: it is killed, frozen and cut off while it works. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { connect, isDriverFault } from "../../src/db/postgres-js.ts";
import {
  consoleLogger,
  createWorker,
  discard,
  type HandlerContext,
  implement,
  implementBatch,
  snooze,
  type Worker,
} from "../../src/index.ts";
import { plannedFailure, type Sighting, sight, signatureOf } from "../support/identity.ts";
import { openJournal } from "../support/journal.ts";
import { startSoon } from "../support/start-soon.ts";
import { BULK, PAIRS, type Plan, WORK } from "./plan.ts";

// As the command line does, and as docs/cli.md advises.
process.on("uncaughtException", (error) => {
  if (isDriverFault(error)) return;
  console.error(error);
  process.exit(1);
});

const sql = connect(process.env["CRASH_DATABASE_URL"] ?? "", { applicationName: "crash-worker" });
const leaseMs = Number(process.env["CRASH_LEASE_MS"]);
const name = `crash ${process.pid} ${randomUUID()}`;
const journal = openJournal(process.env["CRASH_JOURNAL"] ?? "");

/** Writes down which job it was given. */
function begin({
  input,
  id,
  type,
  tenantId,
  attempt,
  claim,
}: Pick<
  HandlerContext<Plan>,
  "input" | "id" | "type" | "tenantId" | "attempt" | "claim"
>): Sighting {
  const told = { id, type, tenantId, attempt: attempt.number, lease: claim.leaseId, worker: name };
  const sighting = sight(input, told);
  journal.write(sighting);
  return sighting;
}

async function perform(plan: Plan, sighting: Sighting): Promise<void> {
  await delay(plan.ms);
  if (plan.stallMs > 0 && sighting.attempt === 1) block(plan.stallMs);
  if (sighting.attempt <= plan.failures) throw new Error(plannedFailure(sighting));
}

/** Nothing of this process moves meanwhile, its heartbeats included. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const work = implement(WORK, async (context) => {
  const { input, id, attempt, commitWith, note, progress } = context;
  const sighting = begin(context);
  const signature = signatureOf(sighting);
  note({ ...signature });
  if (input.reports) progress(50, input.who.nonce, { ...signature });
  await perform(input, sighting);
  if (input.end === "discard") return discard("planned");
  if (input.end === "snooze" && Math.random() < 0.8) return snooze("200ms");
  if (input.hasEffect) {
    await commitWith(async (tx) => {
      await tx.query("insert into public.ledger (job_id, nonce, attempt) values ($1, $2, $3)", [
        id,
        input.who.nonce,
        attempt.number,
      ]);
      return { ...signature };
    });
  }
  return { ...signature };
});

const bulk = implementBatch(
  BULK,
  async ({ jobs }) => {
    const sightings = jobs.map(begin);
    await delay(Math.max(...jobs.map(({ input }) => input.ms)));
    return sightings.map((sighting, n) =>
      jobs[n]?.input.end === "discard" ? discard("planned") : { ...signatureOf(sighting) },
    );
  },
  { maxSize: 20 },
);

function makeWorker(): Worker {
  return createWorker({
    sql,
    name,
    handlers: [work, bulk],
    queues: { [PAIRS]: 4, "*": 8 },
    leaseMs,
    pollIntervalMs: 200,
    details: { pid: process.pid },
    logger: consoleLogger({ level: "error" }),
  });
}

const worker = await startSoon(makeWorker);
console.log("ready");
process.once("SIGTERM", () => {
  void worker.stop().then(async () => {
    await sql.close();
    process.exit(0);
  });
});

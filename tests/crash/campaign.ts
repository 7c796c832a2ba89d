import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import type { Sighting } from "../support/identity.ts";
import { readJournal } from "../support/journal.ts";
import { startTestServer } from "../support/server.ts";
import { type Audit, audit, faults } from "./audit.ts";
import { type Fleet, startFleet } from "./fleet.ts";
import { type Random, randomFrom } from "./plan.ts";
import { type Producer, startProducer } from "./producer.ts";

export interface CrashOptions {
  readonly major: number;
  readonly seed: number;
  readonly kills: number;
  readonly restarts: number;
  readonly workers: number;
  readonly leaseMs: number;
  /** Mean time between two kills. */
  readonly pauseMs: number;
  readonly backlog: number;
  readonly drainTimeoutMs: number;
  readonly onProgress?: (line: string) => void;
}

export interface CrashReport extends Audit {
  readonly seed: number;
  readonly postgres: string;
  readonly kills: number;
  readonly killsMidJob: number;
  readonly restarts: number;
  readonly freezes: number;
  /** Enqueues whose answer was lost and that were made again. */
  readonly repeatedCalls: number;
  readonly ms: number;
  /** What is wrong; empty when all is well. */
  readonly faults: readonly string[];
}

/** Kills workers and restarts Postgres while jobs run, lets everything come to its end, and counts. */
export async function runCrashCampaign(options: CrashOptions): Promise<CrashReport> {
  const startedAt = Date.now();
  const random = randomFrom(options.seed);
  const server = await startTestServer(options.major);
  const db = await createTestDatabase(server);
  const folder = await mkdtemp(join(tmpdir(), `millrace-test-${process.pid}-crash-`));
  const journal = join(folder, "handlers.jsonl");
  try {
    await db.sql`create table public.ledger (job_id bigint not null, nonce text not null, attempt integer not null)`;
    const { leaseMs, workers } = options;
    const fleet = await startFleet({ url: db.url, leaseMs, workers, random, journal });
    const producer = startProducer({
      sql: db.connect({ max: 5 }),
      random: randomFrom(options.seed + 1),
      stallMs: leaseMs * 1.5,
      backlog: options.backlog,
    });
    const restarts = await doDamage(options, random, fleet, db.sql, () => server.crashAndRestart());
    await producer.stop();
    const isDrained = await drain(db, options.drainTimeoutMs);
    await fleet.stop();
    const result = await audit(db.sql, producer.acknowledged, readJournal<Sighting>(journal));
    return report(options, startedAt, server.version, {
      fleet,
      producer,
      restarts,
      result,
      isDrained,
    });
  } finally {
    await db.close();
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function doDamage(
  { kills, restarts, pauseMs, onProgress }: CrashOptions,
  random: Random,
  fleet: Fleet,
  sql: TestDatabase["sql"],
  restart: () => Promise<void>,
): Promise<number> {
  let restarted = 0;
  while (fleet.kills < kills) {
    await delay(pauseMs * (0.4 + 1.2 * random()));
    if (random() < 0.15) await fleet.freeze();
    if (restarted < Math.floor(((fleet.kills + 1) * restarts) / kills)) {
      // The restart is under way while the next worker dies.
      const [, outcome] = await Promise.allSettled([fleet.kill(sql), restart()]);
      if (outcome.status === "rejected") throw outcome.reason;
      restarted += 1;
    } else {
      await fleet.kill(sql);
    }
    if (fleet.kills % 20 === 0) onProgress?.(`${fleet.kills} kills, ${restarted} restarts`);
  }
  return restarted;
}

/** Resolves with whether every job came to an end in time. */
async function drain(db: TestDatabase, timeoutMs: number): Promise<boolean> {
  const isOver = async (): Promise<boolean> => {
    const [row] = await db.sql<{ is_over: boolean }[]>`
      select public.cleanup_stuck_jobs() = 0 and not exists (select from queue.ready)
        and not exists (select from queue.waiting) and not exists (select from queue.scheduled)
        and not exists (select from queue.leases) as is_over`;
    return row?.is_over ?? false;
  };
  return eventually(isOver, { timeoutMs, intervalMs: 100 }).then(
    () => true,
    () => false,
  );
}

interface Found {
  readonly fleet: Fleet;
  readonly producer: Producer;
  readonly restarts: number;
  readonly result: Audit;
  readonly isDrained: boolean;
}

function report(
  { seed }: CrashOptions,
  startedAt: number,
  postgres: string,
  { fleet, producer, restarts, result, isDrained }: Found,
): CrashReport {
  return {
    seed,
    postgres,
    kills: fleet.kills,
    killsMidJob: fleet.killsMidJob,
    restarts,
    freezes: fleet.freezes,
    repeatedCalls: producer.repeated,
    ...result,
    ms: Date.now() - startedAt,
    faults: [
      ...faults(result),
      ...(isDrained ? [] : ["the queue did not come to rest in time"]),
      ...fleet.deaths.map((words) => `a worker died by itself: ${words}`),
    ],
  };
}

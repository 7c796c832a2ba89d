// BullMQ 6, concurrency 100, jobs kept as is its default. On Redis: `appendonly yes` and `appendfsync always`, so that an
// enqueued job is as durable as in Postgres. On Postgres (BENCH_VARIANT=postgres): the backend that version 6 has, with a pool
// of 20. Failed jobs are retried at once.

import { createPostgresBackend, type JobsOptions, Queue, runMigrations, Worker } from "bullmq";
import { Redis } from "ioredis";
import { Pool } from "pg";
import type { Handle, JobSpec, Payload } from "./protocol.ts";
import { serve } from "./serve.ts";

const QUEUE = "noop";
const isPostgres = process.env["BENCH_VARIANT"] === "postgres";
/** Larger numbers are less urgent; jobs without one come first. */
const LOW = 10;

type PlainQueue = Pick<Queue, "add" | "addBulk" | "getJobCounts">;
let address = "";
let queue: PlainQueue;
let worker: { close(): Promise<void> } | undefined;

function toOptions({ delaySeconds, isLow }: JobSpec): JobsOptions {
  return {
    attempts: 2,
    ...(delaySeconds !== undefined && { delay: delaySeconds * 1000 }),
    ...(isLow && { priority: LOW }),
  };
}

function postgresOptions(): { connection: { connectionString: string; max: number } } {
  return { connection: { connectionString: address, max: 20 } };
}

function openQueue(): PlainQueue {
  if (isPostgres) return new Queue(QUEUE, postgresOptions(), createPostgresBackend) as PlainQueue;
  return new Queue(QUEUE, { connection: new Redis(address, { maxRetriesPerRequest: null }) });
}

function openWorker(handle: Handle, concurrency: number): { close(): Promise<void> } {
  const process = async ({ data }: { data: Payload }): Promise<void> => handle(data);
  const opened = isPostgres
    ? new Worker(QUEUE, process, { ...postgresOptions(), concurrency }, createPostgresBackend)
    : new Worker(QUEUE, process, {
        connection: new Redis(address, { maxRetriesPerRequest: null }),
        concurrency,
      });
  opened.on("error", () => undefined);
  return opened;
}

serve({
  async setup(url) {
    if (!isPostgres) return;
    const pool = new Pool({ connectionString: url, max: 1 });
    await runMigrations(pool);
    await pool.end();
  },
  async connect(url) {
    address = url;
    queue = openQueue();
    await queue.getJobCounts("waiting");
  },
  async enqueueOne(job) {
    await queue.add(QUEUE, job.payload, toOptions(job));
  },
  async enqueueMany(jobs) {
    await queue.addBulk(
      jobs.map((job) => ({ name: QUEUE, data: job.payload, opts: toOptions(job) })),
    );
  },
  async work({ concurrency = 100 }, handle) {
    worker = openWorker(handle, concurrency);
  },
  async count() {
    const { completed = 0, ...others } = await queue.getJobCounts(
      "completed",
      "waiting",
      "active",
      "delayed",
      "prioritized",
      "failed",
    );
    return { left: Object.values(others).reduce((sum, n) => sum + n, 0), completed };
  },
  async settle() {
    await worker?.close();
  },
});

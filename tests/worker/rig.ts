import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import {
  createQueue,
  createWorker,
  type Implementation,
  type Queue,
  silentLogger,
  type Worker,
  type WorkerEvent,
  type WorkerOptions,
} from "../../src/index.ts";
import type { TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { noteWait } from "../support/waits.ts";

/** A worker under test, and all that it told. */
export interface Rig {
  readonly sql: Sql;
  readonly queue: Queue;
  readonly worker: Worker;
  readonly events: readonly WorkerEvent[];
  /** Waits until so many events of a kind have come, and answers them. */
  seen<K extends WorkerEvent["kind"]>(
    kind: K,
    count?: number,
  ): Promise<Extract<WorkerEvent, { kind: K }>[]>;
  status(job: { id: string }): Promise<string>;
}

export type RigOptions = Partial<Omit<WorkerOptions, "sql" | "handlers">> & {
  readonly url?: string;
  readonly pooled?: boolean;
};

/** Runs `work` with a started worker, and stops both worker and connections whatever happens. */
export async function withWorker(
  db: TestDatabase,
  handlers: readonly Implementation[],
  work: (rig: Rig) => Promise<void>,
  { url = db.url, pooled = url.includes("pgbouncer=true"), ...options }: RigOptions = {},
): Promise<void> {
  const sql = connect(url, { pooled });
  const events: WorkerEvent[] = [];
  const worker = createWorker({
    sql,
    handlers,
    logger: silentLogger,
    leaseMs: 1_000,
    shutdownTimeoutMs: 0,
    abortGraceMs: 100,
    onEvent: (event) => events.push(event),
    ...options,
  });
  const queue = createQueue({ sql });
  const seen: Rig["seen"] = (kind, count = 1) =>
    eventually(
      () => {
        const found = events.filter((event) => event.kind === kind);
        return found.length >= count ? (found as never) : undefined;
      },
      { timeoutMs: 30_000 },
    );
  try {
    await worker.start();
    await work({
      sql,
      queue,
      worker,
      events,
      seen,
      status: async (job) => (await queue.get(job)).status,
    });
  } finally {
    await worker.stop();
    await sql.close();
  }
}

/** A promise and the means to resolve it from outside. */
export interface Gate {
  readonly opened: Promise<void>;
  open(): void;
}

export function gate(): Gate {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const waits: (() => void)[] = [];
  return {
    get opened() {
      const [, , line = ""] = new Error().stack?.split("\n") ?? [];
      waits.push(noteWait(`a gate ${line.trim()}`));
      return opened;
    },
    open() {
      for (const done of waits.splice(0)) done();
      open();
    },
  };
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Takes all leases away, as the rescuer does when a worker was silent for too long. */
export async function loseLeases(db: TestDatabase): Promise<void> {
  // What is only offered is not charged when it is lost.
  await eventually(async () => {
    const offered = await db.superSql`select from queue.leases where is_offered`;
    return offered.length === 0;
  });
  // In one transaction, or the worker could extend them in between.
  await db.superSql.begin(async (tx) => {
    await tx`update queue.leases set expires_at = queue.clock() - interval '1 second'`;
    await tx`select queue.rescue(100)`;
  });
}

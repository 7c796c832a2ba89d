import { hostname } from "node:os";
import type { Sql } from "../../db/sql.ts";
import { createWorker, type Worker } from "../../worker/worker.ts";
import type { Application } from "../application.ts";
import type { CliContext } from "../context.ts";
import { countOf } from "../output/words.ts";
import type { LiveView } from "./live-view.ts";

export interface RunRequest {
  readonly sql: Sql;
  readonly application: Application;
  readonly view: LiveView;
  readonly command: "dev" | "work";
  /** End when no job is left. */
  readonly once: boolean;
  readonly queues?: Readonly<Record<string, number>> | undefined;
  readonly concurrency?: number | undefined;
  /** How long running handlers may go on after a signal. @default the worker's */
  readonly stopTimeoutMs?: number | undefined;
}

export interface RunReport {
  readonly released: number;
  /** Somebody asked for the end. */
  readonly wasStopped: boolean;
  /** Somebody could not wait for it. */
  readonly wasForced: boolean;
}

/** `--once` does not wait for jobs that fall due later than this. */
const ONCE_HORIZON_MS = 60_000;

/** Works until the queue is empty or somebody asks for the end; the first signal lets handlers finish, the second does not. */
export async function runWorker(context: CliContext, request: RunRequest): Promise<RunReport> {
  const { stop, force } = context.interrupts;
  const worker = makeWorker(request);
  const onStop = (): void => {
    tellStopping(context, worker);
    const { stopTimeoutMs } = request;
    void worker.stop(stopTimeoutMs === undefined ? {} : { timeoutMs: stopTimeoutMs });
  };
  const onForce = (): void => void worker.stop({ timeoutMs: 0 });
  stop.addEventListener("abort", onStop, { once: true });
  force.addEventListener("abort", onForce, { once: true });
  try {
    if (!stop.aborted) {
      await (request.once
        ? worker.drain({ until: "empty", horizonMs: ONCE_HORIZON_MS })
        : worker.run());
    }
    const { released } = await worker.stop();
    return { released, wasStopped: stop.aborted, wasForced: force.aborted };
  } finally {
    stop.removeEventListener("abort", onStop);
    force.removeEventListener("abort", onForce);
    request.view.end();
  }
}

function makeWorker({ sql, application, view, queues, concurrency, command }: RunRequest): Worker {
  return createWorker({
    sql,
    handlers: application.handlers,
    ...shares(application.queues, queues, concurrency),
    onEvent: view.onEvent,
    logger: view.logger,
    details: { host: hostname(), pid: process.pid, program: `millrace ${command}` },
  });
}

const USUAL_CONCURRENCY = 10;

/** Options of the command line win over what the application says. */
export function shares(
  ofApplication: Application["queues"],
  queues: Readonly<Record<string, number>> | undefined,
  concurrency: number | undefined,
): { queues?: Record<string, number>; concurrency?: number } {
  const usual = concurrency ?? USUAL_CONCURRENCY;
  if (queues) {
    return {
      // 0 stands for a queue that was named without a number.
      queues: Object.fromEntries(
        Object.entries(queues).map(([name, share]) => [name, share === 0 ? usual : share]),
      ),
    };
  }
  if (ofApplication) {
    return { queues: { ...ofApplication, ...(concurrency !== undefined && { "*": concurrency }) } };
  }
  return { concurrency: usual };
}

function tellStopping({ terminal, isJson }: CliContext, worker: Worker): void {
  const { running } = worker;
  if (isJson) {
    terminal.event({ event: "stopping", at: new Date().toISOString(), running });
    return;
  }
  terminal.say(
    running === 0
      ? "\n  Stopping"
      : `\n  Stopping: ${countOf(running, "job")} still ${running === 1 ? "runs" : "run"}. Once more to give them back at once`,
  );
}

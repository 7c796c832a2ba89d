import { type Clock, systemClock } from "../core/clock.ts";
import { LeaseLostError } from "../core/errors.ts";
import { encodeResult, type JsonValue } from "../core/json.ts";
import { jsonLogger, type Logger, shielded, withFields } from "../core/logger.ts";
import { anySignal } from "../core/signals.ts";
import { failureOf } from "./job-failure.ts";
import { type JobReporter, reporterOf } from "./job-reporter.ts";
import { type LaterTools, workLater } from "./later-work.ts";
import { problemResponse } from "./problem.ts";
import { type ReceivedJob, type ReceiveOptions, receiveJob } from "./received-job.ts";
import { RequestRefused } from "./request-refused.ts";

/** What a function that does jobs gets for each of them. */
export interface JobCall<Payload> {
  readonly job: ReceivedJob<Payload>;
  /** The same as `job.payload`. */
  readonly payload: Payload;
  /** Aborts when the caller hangs up, the lease is lost, or the isolate ends: stop, the job is or will be with another attempt. */
  readonly signal: AbortSignal;
  /** Tells how far it is; costs at most one call a second, and never fails the work. */
  readonly progress: (percent: number, message?: string, data?: JsonValue) => void;
  readonly log: Logger;
}

/** Does one job. What it returns is the job's result; what it throws fails the attempt. */
export type JobHandle<Payload> = (call: JobCall<Payload>) => unknown;

export interface JobFunctionOptions<Payload = unknown> extends ReceiveOptions<Payload> {
  /** Answer 202 at once and tell the end through the callback. A job without one is answered at its end. @default false */
  readonly later?: boolean;
  /** Keeps the isolate alive for work that goes on after the answer: `EdgeRuntime.waitUntil`. @default the process lives on its own */
  readonly waitUntil?: (work: Promise<unknown>) => void;
  /** How long the lease is asked to last while `later` work goes on; asked for again each third of it. @default 60 */
  readonly leaseSeconds?: number;
  /** Aborts when the isolate is about to end. Its reason is what the jobs fail with. */
  readonly stopping?: AbortSignal;
  /** @default lines of JSON on the console */
  readonly logger?: Logger;
  /** For what is told to the queue. @default globalThis.fetch */
  readonly fetch?: typeof globalThis.fetch;
  readonly clock?: Clock;
}

/**
 * A function that jobs can be sent to. It answers 200 with the result as JSON; problem+json otherwise: what `receiveJob` refuses, 422 for
 * `Refused` and for a result that is no JSON, 503 with Retry-After for `RetryLater`, 500 for every other error. Never rejects.
 */
export function jobFunction<Payload = unknown>(
  options: JobFunctionOptions<Payload>,
  handle: JobHandle<Payload>,
): (request: Request) => Promise<Response> {
  const { logger = jsonLogger(), clock = systemClock, later = false } = options;
  const log = shielded(logger);
  return async (request) => {
    let job: ReceivedJob<Payload>;
    try {
      job = await receiveJob(request, options);
    } catch (error) {
      return refusal(error, log);
    }
    const jobLog = withFields(log, { jobId: job.id, type: job.type, attempt: job.attempt });
    const lost = new AbortController();
    const lose = (): void => lost.abort(new LeaseLostError(job.id));
    const reporter = reporterOf(job, {
      clock,
      onLost: lose,
      ...(options.fetch && { fetch: options.fetch }),
    });
    const isLater = later && job.callback !== null;
    // Once the answer is out, the request's signal says nothing about the work.
    const linked = anySignal([lost.signal, options.stopping, isLater ? undefined : request.signal]);
    const work = async (): Promise<string | null> => {
      try {
        linked.signal.throwIfAborted();
        return resultOf(await handle(callOf(job, linked.signal, reporter, jobLog)));
      } finally {
        linked.release();
        reporter.stop();
      }
    };
    if (!isLater) return answerOf(work, jobLog);
    const tools: LaterTools = {
      reporter,
      lose,
      clock,
      log: jobLog,
      leaseSeconds: options.leaseSeconds ?? 60,
    };
    const done = workLater(work, tools);
    options.waitUntil?.(done);
    return jsonResponse(202, '{"accepted":true}');
  };
}

/** What can't be written as JSON can't be the next time. Errors of the same class from the handler's own calls say nothing of that. */
function resultOf(value: unknown): string | null {
  try {
    return encodeResult(value);
  } catch (error) {
    const { message } = error as Error;
    throw new RequestRefused({ status: 422, code: "INVALID_RESULT", title: message });
  }
}

function callOf<Payload>(
  job: ReceivedJob<Payload>,
  signal: AbortSignal,
  reporter: JobReporter,
  log: Logger,
): JobCall<Payload> {
  return { job, payload: job.payload, signal, progress: reporter.progress, log };
}

async function answerOf(work: () => Promise<string | null>, log: Logger): Promise<Response> {
  try {
    return jsonResponse(200, (await work()) ?? "null");
  } catch (error) {
    const { problem } = failureOf(error);
    log.warn("job.failed", { code: problem.code, status: problem.status });
    return problemResponse(problem);
  }
}

/** Whoever may not call is told no more than that. */
function refusal(error: unknown, log: Logger): Response {
  const { problem } = failureOf(error);
  log.warn("job.refused", { code: problem.code, status: problem.status });
  return problemResponse(problem);
}

function jsonResponse(status: number, body: string): Response {
  return new Response(body, { status, headers: { "content-type": "application/json" } });
}

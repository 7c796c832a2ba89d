import { defineJob } from "../core/define-job.ts";
import type { BatchItem } from "../core/handler.ts";
import { type Implementation, implementBatch } from "../core/implement.ts";
import type { JsonValue } from "../core/json.ts";
import { fail, type Outcome } from "../core/outcomes.ts";
import { bodyOf, type Delivery, type Dispatched, send, type Target } from "./dispatch.ts";
import { DispatchError } from "./dispatch-error.ts";
import {
  cannotReport,
  type DispatchParts,
  deliveryOf,
  newTraceparent,
} from "./dispatch-handler.ts";

/** What becomes of one job. */
type End = JsonValue | Outcome | undefined;

/** Jobs that go to one place in one call. */
interface Parcel {
  readonly target: Target;
  readonly items: BatchItem[];
}

/**
 * The handler of a type whose jobs are sent many at a time: `{ "type", "jobs": […] }`. A 2xx answer is an array with an entry for each job, in
 * their order: `{ "result" }`, or `{ "error", "retryable"?, "retry_after_seconds"? }`. Another 2xx answer does not tell what became of each
 * job, so all of them fail, and none is tried again; any other status holds for all.
 */
export function batchDispatchHandler(
  type: string,
  maxSize: number,
  parts: DispatchParts,
): Implementation {
  return implementBatch(
    defineJob(type),
    async ({ jobs, signal }) => {
      const ends = new Map<BatchItem, End>();
      await Promise.all(
        parcelsOf(jobs, parts, ends).map(async (parcel) => {
          const found = await sendParcel(type, parcel, parts, signal);
          for (const [at, item] of parcel.items.entries()) ends.set(item, found[at]);
        }),
      );
      return jobs.map((item) => ends.get(item)) as JsonValue[];
    },
    { maxSize },
  );
}

/** Tenants may have routes of their own. A job without a route fails by itself. */
function parcelsOf(
  jobs: readonly BatchItem[],
  { targetOf }: DispatchParts,
  ends: Map<BatchItem, End>,
): Parcel[] {
  const open = new Map<string, Parcel>();
  const full: Parcel[] = [];
  for (const item of jobs) {
    try {
      const target = targetOf(item);
      const place = JSON.stringify([target.url, target.method, target.headers]);
      const parcel = open.get(place) ?? { target, items: [] };
      open.set(place, parcel);
      parcel.items.push(item);
      if (parcel.items.length < target.batchSize) continue;
      full.push(parcel);
      open.delete(place);
    } catch (error) {
      ends.set(item, fail(error));
    }
  }
  return [...full, ...open.values()];
}

async function sendParcel(
  type: string,
  { target, items }: Parcel,
  { callbackOf, tools }: DispatchParts,
  signal: AbortSignal,
): Promise<readonly End[]> {
  const callbacks = await Promise.all(items.map((item) => callbackOf(item.claim)));
  const deliveries = items.map((item, at) => deliveryOf(item, callbacks[at]));
  const traceparent = newTraceparent();
  const startedAt = tools.clock.now();
  const answer = await send(messageOf(type, deliveries, traceparent), target, { ...tools, signal });
  const note = {
    function: target.functionName,
    status: answer.status,
    duration_ms: Math.round(tools.clock.now() - startedAt),
    trace_id: traceparent.slice(3, 35),
    batch: items.length,
  };
  for (const item of items) item.note(note);
  return endsOf(answer, target, items, callbacks);
}

function messageOf(type: string, deliveries: readonly Delivery[], traceparent: string) {
  const [first] = deliveries;
  const jobs = deliveries.map((one) => ({ ...bodyOf(one), idempotency_key: one.idempotencyKey }));
  const id = `jobs_${first?.jobId}_${first?.attempt}_${deliveries.length}`;
  return { id, body: JSON.stringify({ type, jobs }), idempotencyKey: id, traceparent };
}

async function endsOf(
  answer: Dispatched,
  target: Target,
  items: readonly BatchItem[],
  callbacks: readonly Delivery["callback"][],
): Promise<readonly End[]> {
  switch (answer.kind) {
    case "failed": {
      const { error, retryable, retryAfterMs } = answer;
      const after = retryAfterMs === undefined ? {} : { retryAfter: retryAfterMs };
      return items.map(() => fail(error, { retryable, ...after }));
    }
    case "accepted":
      return Promise.all(
        items.map(async (item, at) => {
          if (!callbacks[at]) return fail(cannotReport(target), { retryable: false });
          // What could not be handed over is tried again; a lease that was lost is lost whatever this says.
          return item.handOver(target.reportMs).then(() => undefined, fail);
        }),
      );
    case "completed":
      return entriesOf(answer.result, target, items.length);
  }
}

/** The work is done, whatever was answered: what can't be read is not tried again. */
function entriesOf(result: unknown, { functionName }: Target, count: number): readonly End[] {
  const fault = (what: string): Outcome =>
    fail(new DispatchError("FUNCTION_ANSWER_INVALID", 200, `${functionName} answered ${what}`), {
      retryable: false,
    });
  if (!Array.isArray(result) || result.length !== count) {
    return Array(count).fill(
      fault(
        `with something else than an array of ${count}, so it is not told what became of each job`,
      ),
    );
  }
  return result.map((entry: unknown) => {
    if (typeof entry !== "object" || entry === null)
      return fault("with an entry that is no object");
    const { error, result: own, retryable, retry_after_seconds: after } = entry as Entry;
    if (error === undefined || error === null) return own ?? null;
    const failed = new DispatchError(
      "FUNCTION_FAILED",
      200,
      `Function execution failed: ${String(error)}. Check function logs.`,
    );
    return fail(failed, {
      retryable: retryable !== false,
      ...(typeof after === "number" && after >= 0 && { retryAfter: after * 1_000 }),
    });
  });
}

interface Entry {
  readonly error?: unknown;
  readonly result?: JsonValue;
  readonly retryable?: unknown;
  readonly retry_after_seconds?: unknown;
}

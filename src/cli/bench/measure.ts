import type { Sql } from "../../db/sql.ts";
import type { CliContext } from "../context.ts";
import { type ProgressOptions, startProgress } from "../output/progress.ts";
import type { Figures } from "./figures.ts";
import { drain, enqueueBulk, enqueueOneByOne } from "./measure-rates.ts";
import { measureLatency, measureRoundTrip } from "./measure-times.ts";

/** How much is measured. */
export interface Sizes {
  readonly jobs: number;
  readonly concurrency: number;
  readonly oneByOne: number;
  readonly samples: number;
}

/** Measures a queue that is installed and empty. */
export async function measure(
  context: CliContext,
  sql: Sql,
  { jobs, concurrency, oneByOne, samples }: Sizes,
): Promise<Figures> {
  const { stop } = context.interrupts;
  const roundTrip = await measureRoundTrip(sql, stop);
  // First, so that the rates are not those of plans and connections that are still to be made.
  const latency = await shown(context, { label: "latency", total: samples }, (onProgress) =>
    measureLatency({ sql, samples, roundTripMs: roundTrip.p50, stop, onProgress }),
  );
  const bulk = await shown(context, { label: "enqueuing in bulk", total: jobs }, (onProgress) =>
    enqueueBulk({ sql, jobs, stop, onProgress }),
  );
  const drained = await shown(context, { label: "draining", total: jobs }, (onProgress) =>
    drain({ sql, jobs, concurrency, stop, onProgress }),
  );
  // Last, because nobody runs these jobs any more.
  const single = await shown(
    context,
    { label: "enqueuing one by one", total: oneByOne },
    (onProgress) => enqueueOneByOne({ sql, jobs: oneByOne, stop, onProgress }),
  );
  return { drain: drained, enqueueBulk: bulk, enqueueOneByOne: single, latency, roundTrip };
}

async function shown<T>(
  { terminal }: CliContext,
  options: ProgressOptions,
  work: (onProgress: (done: number) => void) => Promise<T>,
): Promise<T> {
  const progress = await startProgress(terminal, options);
  try {
    return await work((done) => progress.update(done));
  } finally {
    progress.end();
  }
}

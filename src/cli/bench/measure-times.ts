import { createQueue } from "../../client/create-queue.ts";
import { raceSignal, sleep } from "../../core/signals.ts";
import { ping } from "../../db/bench-database.ts";
import type { Sql } from "../../db/sql.ts";
import { benchJob, whileWorking } from "./bench-job.ts";
import { type Spread, spreadOf } from "./figures.ts";

/** The first few times pay for connections and plans; they don't count. */
const WARM_UP = 10;
const ROUND_TRIPS = 40;

/** How long a statement that asks for nothing takes. */
export async function measureRoundTrip(sql: Sql, stop: AbortSignal): Promise<Spread> {
  const times: number[] = [];
  for (let turn = 0; turn < WARM_UP + ROUND_TRIPS; turn += 1) {
    const startedAt = performance.now();
    await ping(sql, stop);
    if (turn >= WARM_UP) times.push(performance.now() - startedAt);
  }
  return spreadOf(times);
}

export interface LatencyRequest {
  readonly sql: Sql;
  readonly samples: number;
  /** How long a statement takes that asks for nothing. */
  readonly roundTripMs: number;
  readonly stop: AbortSignal;
  /** Told how many samples are taken. */
  readonly onProgress: (taken: number) => void;
}

/** Long enough for a worker that is done to go to sleep again, its own round trips aside. */
const REST_MS = 20;
/** From the start of a handler until its worker sleeps: write the end, look once more, ask to be woken. */
const TRIPS_TO_SLEEP = 3;
/** Where no notification arrives a sample takes up to a second; then fewer are taken. */
const MOST_MS = 20_000;

/** How long an idle worker takes to start a job, from just before its enqueue. Takes fewer samples when they take long. */
export async function measureLatency(request: LatencyRequest): Promise<Spread> {
  const { sql, samples, roundTripMs, stop, onProgress } = request;
  const queue = createQueue({ sql });
  const times: number[] = [];
  let heard: { readonly n: number; readonly resolve: (at: number) => void } | undefined;
  const onStart = (n: number): void => {
    if (heard?.n === n) heard.resolve(performance.now());
  };

  const sample = async (n: number, signal: AbortSignal): Promise<number> => {
    const started = new Promise<number>((resolve) => {
      heard = { n, resolve };
    });
    const sentAt = performance.now();
    await raceSignal(queue.enqueue(benchJob, { n }), signal);
    return (await raceSignal(started, signal)) - sentAt;
  };

  await whileWorking({ sql, concurrency: 1, onStart, stop }, async (signal) => {
    let beganAt = performance.now();
    for (let n = 0; n < WARM_UP + samples; n += 1) {
      if (n === WARM_UP) beganAt = performance.now();
      // Not in step with anything that polls.
      const rest = REST_MS * (0.5 + Math.random()) + TRIPS_TO_SLEEP * roundTripMs;
      await sleep(rest, signal);
      const time = await sample(n, signal);
      if (n < WARM_UP) continue;
      times.push(time);
      onProgress(times.length);
      if (performance.now() - beganAt > MOST_MS) break;
    }
  });
  return spreadOf(times);
}

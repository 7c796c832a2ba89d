import type { Verdict } from "../doctor/finding.ts";
import type { Style } from "../output/style.ts";
import { pairs, table } from "../output/table.ts";
import { count, countOf } from "../output/words.ts";
import { type Figures, perSecond, type Rate, type Spread } from "./figures.ts";
import type { Sizes } from "./measure.ts";
import { BULK_JOBS, PRODUCERS } from "./measure-rates.ts";

/** The server that was measured. */
export interface Measured {
  readonly database: string;
  readonly version: string;
  /** Those that decide how fast it is. */
  readonly settings: Readonly<Record<string, string>>;
  /** Whether notifications wake a worker. */
  readonly wakes: boolean;
}

/** The figures for programs. */
export function toJson(
  { database, version, settings, wakes }: Measured,
  figures: Figures,
  { concurrency }: Sizes,
): object {
  return {
    database,
    server: { version, ...settings },
    drain: { ...rateJson(figures.drain), concurrency },
    enqueue_bulk: { ...rateJson(figures.enqueueBulk), jobs_per_call: BULK_JOBS },
    enqueue_one_by_one: { ...rateJson(figures.enqueueOneByOne), producers: PRODUCERS },
    latency: { ...spreadJson(figures.latency), is_notified: wakes },
    round_trip: spreadJson(figures.roundTrip),
  };
}

function rateJson(rate: Rate): object {
  const { jobs, elapsedMs } = rate;
  return { jobs, jobs_per_second: perSecond(rate), elapsed_ms: rounded(elapsedMs) };
}

function spreadJson({ samples, p50, p95, p99 }: Spread): object {
  return { samples, p50_ms: rounded(p50), p95_ms: rounded(p95), p99_ms: rounded(p99) };
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}

/** The figures for people, with what they should know of them. */
export function toLines(
  { database, version, settings }: Measured,
  { figures, sizes, notes }: { figures: Figures; sizes: Sizes; notes: readonly Verdict[] },
  style: Style,
): string[] {
  const rows = [
    row("drain", jobsPerSecond(figures.drain), [
      countOf(figures.drain.jobs, "job"),
      `one worker, ${count(sizes.concurrency)} at a time`,
    ]),
    row("enqueue in bulk", jobsPerSecond(figures.enqueueBulk), [
      countOf(figures.enqueueBulk.jobs, "job"),
      `${count(BULK_JOBS)} a call`,
    ]),
    row("enqueue one by one", jobsPerSecond(figures.enqueueOneByOne), [
      countOf(figures.enqueueOneByOne.jobs, "job"),
      `${PRODUCERS} producers in one process`,
    ]),
    row("enqueue to start, p50", time(figures.latency.p50), [
      countOf(figures.latency.samples, "job"),
      "idle worker",
    ]),
    row("enqueue to start, p95", time(figures.latency.p95)),
    row("enqueue to start, p99", time(figures.latency.p99)),
    row("round trip, p50", time(figures.roundTrip.p50), ["select 1"]),
  ];
  return [
    `Postgres ${version} at ${database}`,
    "",
    ...table(
      [
        { title: "measure", cell: (one) => one.measure },
        { title: "figure", cell: (one) => one.figure, align: "right" },
        { title: "of", cell: (one) => one.of },
      ],
      rows,
      { style },
    ),
    "",
    ...pairs(Object.entries(settings), style),
    ...notes.flatMap((note) => ["", ...noteLines(note, style)]),
  ];
}

interface Row {
  readonly measure: string;
  readonly figure: string;
  readonly of: string;
}

function row(measure: string, figure: string, of: readonly string[] = []): Row {
  return { measure, figure, of: of.join(", ") };
}

function jobsPerSecond(rate: Rate): string {
  return `${count(perSecond(rate))} jobs/s`;
}

/** Short times want their fractions: `0.08 ms`, `2.14 ms`, `31.5 ms`, `812 ms`. */
function time(ms: number): string {
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

function noteLines({ message, reason, fix }: Verdict, style: Style): string[] {
  const lines = [`${style("notice", "!")} ${message}`];
  if (reason) lines.push(`  ${style("faint", "why")}  ${reason}`);
  if (fix) lines.push(`  ${style("faint", "fix")}  ${fix}`);
  return lines;
}

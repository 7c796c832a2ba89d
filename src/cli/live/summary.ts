import type { Ending, EndingCount } from "../../db/inspect-run.ts";
import { lookOf } from "../output/status-words.ts";
import type { Style } from "../output/style.ts";
import { table } from "../output/table.ts";
import { count, countOf, duration, oneLine } from "../output/words.ts";
import type { Tally } from "./tally.ts";

/** Every ending in the order in which it is told. */
const ENDINGS: readonly (readonly [Ending, status: string, words: string])[] = [
  ["first_attempt", "completed", "completed at the first attempt"],
  ["when_due", "completed", "completed when it was due"],
  ["after_others", "completed", "completed after the jobs it waited for"],
  ["after_snooze", "completed", "completed after a snooze"],
  ["after_retries", "completed", "completed after retries"],
  ["failed", "failed", "failed: in the dead letters"],
  ["cancelled_waiting", "cancelled", "cancelled before it ran"],
  ["cancelled_running", "cancelled", "cancelled while it ran"],
  ["open", "pending", "still open"],
];

interface Row {
  readonly ending: Ending;
  readonly status: string;
  readonly words: string;
  readonly counts: readonly EndingCount[];
}

export interface SummaryFacts {
  readonly endings: readonly EndingCount[];
  readonly tally: Tally;
  readonly elapsedMs: number;
  /** How to call this program. */
  readonly callName: string;
}

/** What became of the jobs of a run, as a table. */
export function summary(
  { endings, tally, elapsedMs, callName }: SummaryFacts,
  style: Style,
  width: number,
): string[] {
  const rows = toRows(endings);
  const jobs = sum(endings);
  if (jobs === 0) return ["", `  No jobs in ${duration(elapsedMs)}.`, ""];
  const lines = table(
    [
      {
        title: "what became of the jobs",
        cell: ({ status, words }) =>
          `${style(lookOf(status).tone, lookOf(status).symbol)} ${words}`,
      },
      { title: "jobs", align: "right", cell: ({ counts }) => count(sum(counts)) },
      { title: "which", isFlexible: true, cell: which },
    ],
    rows,
    { style, width },
  );
  return [
    "",
    ...lines,
    "",
    `  ${countOf(jobs, "job")} in ${duration(elapsedMs)}; attempts: ${tally}`,
    ...nextSteps(rows, callName, style),
    "",
  ];
}

/** The same for programs. */
export function summaryJson({ endings, tally, elapsedMs }: SummaryFacts): object {
  return {
    event: "summary",
    at: new Date().toISOString(),
    jobs: sum(endings),
    endings: toRows(endings).map(({ ending, counts }) => ({
      ending,
      jobs: sum(counts),
      types: Object.fromEntries(counts.map(({ type, jobs }) => [type, jobs])),
    })),
    attempts: tally.toJson(),
    elapsed_ms: Math.round(elapsedMs),
  };
}

function toRows(endings: readonly EndingCount[]): Row[] {
  return ENDINGS.map(([ending, status, words]) => ({
    ending,
    status,
    words,
    counts: endings.filter((one) => one.ending === ending),
  })).filter(({ counts }) => counts.length > 0);
}

function sum(counts: readonly EndingCount[]): number {
  return counts.reduce((total, one) => total + one.jobs, 0);
}

/** `mail.send #7: the last error` for one job, `mail.send 12, report.build 3` for several. */
function which({ ending, counts }: Row): string {
  const [only] = counts;
  if (only && counts.length === 1 && only.jobs === 1) {
    const wasRefused = ending === "failed" || ending.startsWith("cancelled");
    const said = wasRefused && only.last_error ? `: ${oneLine(only.last_error, 80)}` : "";
    return `${only.type} #${only.id}${said}`;
  }
  return counts
    .map(({ type, jobs, id }) => `${type} ${jobs === 1 ? `#${id}` : `× ${count(jobs)}`}`)
    .join(", ");
}

function nextSteps(rows: readonly Row[], callName: string, style: Style): string[] {
  const failed = rows.find(({ ending }) => ending === "failed")?.counts ?? [];
  const [first] = failed;
  if (!first) return [];
  const look = sum(failed) === 1 ? `jobs show ${first.id}` : "jobs list --status failed";
  return [
    "",
    `  ${style("faint", "Why it failed")}  ${callName} ${look}`,
    `  ${style("faint", "Run it again ")}  ${callName} redrive`,
  ];
}

import type { JobErrorJson } from "../../core/errors.ts";
import type { AttemptFacts, WorkerEvent } from "../../worker/events.ts";
import { lookOf } from "../output/status-words.ts";
import type { Style, Tone } from "../output/style.ts";
import { fit, visibleWidth } from "../output/table.ts";
import { clockTime, duration, oneLine } from "../output/words.ts";

/** An event that tells how an attempt ended. */
export type AttemptEnded = Extract<WorkerEvent, { durationMs: number; job: AttemptFacts }>;

export interface LineOptions {
  readonly style: Style;
  /** How wide the column of types is. */
  readonly typeWidth: number;
  /** How wide a line may be. */
  readonly width: number;
}

/** `12:04:31  ✓ mail.send  #7  1/4   38 ms   waited 4 ms`, and what else there is to say. */
export function attemptLine(
  event: AttemptEnded,
  at: Date,
  { style, typeWidth, width }: LineOptions,
): string {
  const { job } = event;
  const { symbol, tone } = lookOf(event.kind);
  const head: [Tone, string][] = [
    ["faint", `  ${clockTime(at)}  `],
    [tone, symbol],
    ["plain", ` ${fit(job.type, typeWidth)}  `],
    ["faint", `#${job.id}`.padEnd(5)],
    [job.attempt > 1 ? "notice" : "faint", `  ${job.attempt}/${job.maxAttempts}`],
    ["plain", `  ${duration(event.durationMs).padStart(7)}  `],
    ["faint", waitOf(event)],
  ];
  const room = width - head.reduce((sum, [, text]) => sum + visibleWidth(text), 0);
  const note = oneLine(noteOf(event), Math.max(20, room));
  const parts = [...head, [toneOfNote(event), note] as const];
  return parts
    .map(([one, text]) => style(one, text))
    .join("")
    .trimEnd();
}

/** Later attempts waited for their backoff; and what went wrong is worth the room more. */
function waitOf({ kind, job }: AttemptEnded): string {
  const { attempt, waitMs } = job;
  if (kind !== "completed" || attempt !== 1 || waitMs === null) return "";
  return `waited ${duration(waitMs).padStart(6)}  `;
}

function toneOfNote({ kind }: AttemptEnded): "bad" | "notice" | "faint" {
  if (kind === "failed" || kind === "discarded" || kind === "lost") return "bad";
  return kind === "retried" ? "notice" : "faint";
}

function noteOf(event: AttemptEnded): string {
  switch (event.kind) {
    case "completed":
      return event.job.priority === "normal" ? "" : `${event.job.priority} priority`;
    case "retried":
      return `${again(event.retryInMs)}: ${errorText(event.error)}`;
    case "failed":
      return `dead letter: ${errorText(event.error)}`;
    case "discarded":
      return `dead letter: ${event.reason}`;
    case "snoozed":
      return `snoozed, ${again(event.delayMs)}${event.reason === undefined ? "" : `: ${event.reason}`}`;
    case "released":
      return "given back, attempt not counted";
    case "cancelled":
      return "cancelled while it ran";
    case "handed_over":
      return "passed on; its end will be reported";
    case "lost":
      return "lease lost: another worker may have it";
    case "unconfirmed":
      return "not confirmed: the connection broke";
    case "overran":
      return "its handler ended long after its attempt was decided";
  }
}

function again(ms: number | undefined): string {
  return ms === undefined ? "again at once" : `again in ${duration(ms)}`;
}

/** These names say what their messages leave open. */
const TELLING_NAMES = new Set(["TypeError", "RangeError", "ReferenceError", "SyntaxError"]);

function errorText({ name, message }: JobErrorJson): string {
  if (message === "") return name;
  return TELLING_NAMES.has(name) ? `${name}: ${message}` : message;
}

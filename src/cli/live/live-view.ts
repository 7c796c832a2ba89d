import type { LogFields, Logger, LogLevel } from "../../core/logger.ts";
import type { WorkerEvent } from "../../worker/events.ts";
import type { CliContext } from "../context.ts";
import type { Progress } from "../output/progress.ts";
import { clockTime, countOf, duration } from "../output/words.ts";
import { type AttemptEnded, attemptLine } from "./attempt-line.ts";
import { attemptJson, isAttemptEnd } from "./event-json.ts";
import { Tally } from "./tally.ts";

/** More lines than this in a second nobody reads; what completes beyond them is counted. */
const LINES_PER_SECOND = 50;
/** While the flood goes on, a few show that it does. */
const LINES_PER_SECOND_OF_FLOOD = 5;

/** Shows what a worker does: a line for each attempt, or one of NDJSON. */
export class LiveView {
  readonly tally: Tally = new Tally();
  /** Takes the place of lines for jobs that just complete. */
  progress: Progress | undefined;
  readonly #context: CliContext;
  readonly #typeWidth: number;
  #lineBudget = LINES_PER_SECOND;
  #unshown = 0;
  readonly #refill: NodeJS.Timeout;

  constructor(context: CliContext, types: readonly string[]) {
    this.#context = context;
    this.#typeWidth = Math.max(...types.map((type) => type.length), 8);
    this.#refill = setInterval(() => this.#tellUnshown(), 1_000);
  }

  /** For `createWorker({ onEvent })`. */
  readonly onEvent = (event: WorkerEvent): void => {
    if (isAttemptEnd(event)) this.#onAttempt(event);
    else if (event.kind === "disconnected") this.#onDisconnect(event.error);
    else if (event.kind === "reconnected") {
      this.#notice("database.reconnected", `The database is back after ${duration(event.downMs)}`);
    }
  };

  /** What handlers log, and what the worker finds worth a warning. The events above are not repeated. */
  readonly logger: Logger = {
    debug: () => undefined,
    info: (event, fields) => this.#log("info", event, fields),
    warn: (event, fields) => this.#log("warn", event, fields),
    error: (event, fields) => this.#log("error", event, fields),
    enabled: (level) => level !== "debug",
  };

  end(): void {
    clearInterval(this.#refill);
    this.#tellUnshown();
  }

  #onAttempt(event: AttemptEnded): void {
    this.tally.add(event.kind);
    this.progress?.update(this.tally.of("completed", "failed", "discarded", "cancelled"));
    const { terminal, isJson } = this.#context;
    const at = new Date();
    if (isJson) {
      terminal.event(attemptJson(event, at));
      return;
    }
    if (event.kind === "completed" && (this.progress || this.#lineBudget <= 0)) {
      if (!this.progress) this.#unshown += 1;
      return;
    }
    this.#lineBudget -= 1;
    const { style, width } = terminal;
    this.#line(attemptLine(event, at, { style, width, typeWidth: this.#typeWidth }));
  }

  #line(text: string): void {
    if (this.progress) this.progress.note(text);
    else this.#context.terminal.line(text);
  }

  #tellUnshown(): void {
    this.#lineBudget = this.#unshown === 0 ? LINES_PER_SECOND : LINES_PER_SECOND_OF_FLOOD;
    if (this.#unshown === 0) return;
    const { style } = this.#context.terminal;
    this.#line(style("faint", `            … ${countOf(this.#unshown, "more attempt")} completed`));
    this.#unshown = 0;
  }

  #onDisconnect(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#notice("database.disconnected", `${reason}; waiting for it to come back`);
  }

  #notice(event: string, text: string): void {
    const { terminal, isJson } = this.#context;
    if (isJson) {
      terminal.event({ event, at: new Date().toISOString(), message: text });
      return;
    }
    const time = terminal.talkStyle("faint", clockTime(new Date()));
    const line = `  ${time}  ${terminal.talkStyle("notice", `! ${text}`)}`;
    if (this.progress) this.progress.note(line);
    else terminal.say(line);
  }

  #log(level: LogLevel, name: string, fields: LogFields = {}): void {
    if (TOLD_OTHERWISE.test(name)) return;
    const { terminal, isJson } = this.#context;
    if (isJson) {
      terminal.event({
        event: "log",
        at: new Date().toISOString(),
        level,
        name,
        fields: plain(fields),
      });
      return;
    }
    // The id says enough; type and attempt stand in the line that follows.
    const { jobId, type: _type, attempt: _attempt, ...own } = fields;
    const words = Object.entries(own).map(([key, value]) => `${key}=${show(value)}`);
    const subject = jobId === undefined ? [] : [`#${String(jobId)}`];
    const text = `  ${clockTime(new Date())}    ${[...subject, name, ...words].join(" ")}`;
    const line = text.slice(0, terminal.width);
    const styled = terminal.talkStyle(level === "info" ? "faint" : "notice", line);
    if (this.progress) this.progress.note(styled);
    else terminal.say(styled);
  }
}

/** The names under which the worker logs the events that it hands to `onEvent` as well; and what is no news here. */
const TOLD_OTHERWISE =
  /^(?:job\.(?:claimed|started|completed|retried|failed|snoozed|discarded|released|cancelled|lost|unconfirmed|overran)|jobs\.claimed|database\.\w+|listen\.\w+)$/;

function plain(fields: LogFields): LogFields {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [
      key,
      value instanceof Error ? show(value) : value,
    ]),
  );
}

function show(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(`${value.name}: ${value.message}`);
  return typeof value === "string" && /^[^\s"]+$/.test(value) ? value : JSON.stringify(value);
}

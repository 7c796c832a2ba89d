export type LogLevel = "debug" | "info" | "warn" | "error";

export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Where events go. An event has a dotted name and flat fields: `info("job.completed", { jobId, type })`.
 *
 * What the library logs never contains payloads, results, or the texts of errors and reasons: those are in the database, and in events.
 */
export interface Logger {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** Says whether a level is written at all, so that busy loops can leave out the work. Default: yes. */
  enabled?(level: LogLevel): boolean;
}

export interface LoggerOptions {
  /** The lowest level that is written. @default "info" */
  readonly level?: LogLevel;
  /** Where a finished line goes. @default the console's method of that level */
  readonly write?: (level: LogLevel, line: string) => void;
}

const RANK: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

/** Lines for people: `12:04:31.120 info job.completed jobId=7 type=mail`. */
export function consoleLogger(options: LoggerOptions = {}): Logger {
  return lineLogger(options, (level, event, fields) => {
    const time = new Date().toISOString().slice(11, 23);
    let line = `${time} ${level.padEnd(5)} ${event}`;
    for (const [key, value] of Object.entries(fields)) line += ` ${key}=${plain(value)}`;
    return line;
  });
}

/** One JSON object a line: `{"time":…,"level":"info","event":"job.completed",…}`. */
export function jsonLogger(options: LoggerOptions = {}): Logger {
  return lineLogger(options, (level, event, fields) => {
    const time = new Date().toISOString();
    return toJson({ time, level, event, ...fields }) ?? toJson({ time, level, event }) ?? "";
  });
}

/** Writes nothing. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  enabled: () => false,
};

/** The same logger with fields that are added to every event. */
export function withFields(logger: Logger, fields: LogFields): Logger {
  return {
    debug: (event, more) => logger.debug(event, { ...fields, ...more }),
    info: (event, more) => logger.info(event, { ...fields, ...more }),
    warn: (event, more) => logger.warn(event, { ...fields, ...more }),
    error: (event, more) => logger.error(event, { ...fields, ...more }),
    enabled: (level) => logger.enabled?.(level) ?? true,
  };
}

function lineLogger(
  { level: lowest = "info", write = toConsole }: LoggerOptions,
  format: (level: LogLevel, event: string, fields: LogFields) => string,
): Logger {
  function log(level: LogLevel, event: string, fields: LogFields = {}): void {
    if (RANK[level] >= RANK[lowest]) write(level, format(level, event, fields));
  }
  return {
    debug: (event, fields) => log("debug", event, fields),
    info: (event, fields) => log("info", event, fields),
    warn: (event, fields) => log("warn", event, fields),
    error: (event, fields) => log("error", event, fields),
    enabled: (level) => RANK[level] >= RANK[lowest],
  };
}

function toConsole(level: LogLevel, line: string): void {
  console[level](line);
}

function plain(value: unknown): string {
  if (typeof value === "string") return /^[\w.:/@+-]+$/.test(value) ? value : JSON.stringify(value);
  if (value instanceof Error) return JSON.stringify(`${value.name}: ${value.message}`);
  if (typeof value === "object" && value !== null) return toJson(value) ?? "…";
  return String(value);
}

/** JSON of what may contain errors and bigints; undefined for what cannot be written. A log line must never fail the work. */
function toJson(value: object): string | undefined {
  try {
    return JSON.stringify(value, (_key, member: unknown) => {
      if (member instanceof Error) return `${member.name}: ${member.message}`;
      return typeof member === "bigint" ? String(member) : member;
    });
  } catch {
    return undefined;
  }
}

/** The same logger, made so that its faults stay its own. */
export function shielded(logger: Logger): Logger {
  const call = (level: LogLevel, event: string, fields?: LogFields): void => {
    try {
      const answer: unknown = logger[level](event, fields);
      if (answer instanceof Promise) answer.catch(() => undefined);
    } catch {
      // Nowhere to tell it: this was the place.
    }
  };
  return {
    debug: (event, fields) => call("debug", event, fields),
    info: (event, fields) => call("info", event, fields),
    warn: (event, fields) => call("warn", event, fields),
    error: (event, fields) => call("error", event, fields),
    enabled(level) {
      try {
        return logger.enabled?.(level) ?? true;
      } catch {
        return true;
      }
    },
  };
}

import { InvalidOptionError } from "./errors.ts";
import { isStorable } from "./json.ts";

/** The error for an option that breaks a rule; the message says which rule, and what was received. */
export function refused(option: string, rule: string, received: unknown): InvalidOptionError {
  return new InvalidOptionError(option, `it ${rule}, got ${describe(received)}`);
}

/** The value, if it is a whole number within these bounds. Throws InvalidOptionError. */
export function wholeNumber(option: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw refused(option, `must be a whole number from ${least} to ${most}`, value);
}

/**
 * The value, if it is a text that Postgres keeps as it is; nothing stays nothing. Throws InvalidOptionError. Drivers would turn anything
 * else into some text: two keys that are objects would be one key, and the second job would never be made.
 */
export function optionalText(option: string, value: string | null | undefined): string | undefined {
  return value === undefined || value === null ? undefined : requiredText(option, value);
}

/** The same for what can't be left out. */
export function requiredText(option: string, value: string): string {
  if (typeof value !== "string") throw refused(option, "must be a text", value);
  if (!isStorable(value)) {
    throw refused(option, "must not contain NUL or half a surrogate pair", value);
  }
  return value;
}

/** The value, if it is one of these words; nothing stays nothing. Throws InvalidOptionError. */
export function optionalWord<Word extends string>(
  option: string,
  value: Word | null | undefined,
  words: readonly Word[],
): Word | undefined {
  if (value === undefined || value === null) return undefined;
  if (words.includes(value)) return value;
  throw refused(option, `must be one of ${words.join(", ")}`, value);
}

/** The value, if it is an array. Throws InvalidOptionError. */
export function array<T>(option: string, value: readonly T[]): readonly T[] {
  if (Array.isArray(value)) return value;
  throw refused(option, "must be an array", value);
}

/** The value, if it is a time that the database can read. Throws InvalidOptionError. */
export function isoTime(option: string, value: Date): string {
  const year = value instanceof Date ? value.getUTCFullYear() : Number.NaN;
  if (year >= 1 && year <= 9999) return value.toISOString();
  throw refused(option, "must be a valid Date from the year 1 to 9999", value);
}

function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 80));
  if (value === null || typeof value !== "object") return String(value);
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? "an invalid Date" : value.toISOString();
  }
  return Array.isArray(value) ? "an array" : "an object";
}

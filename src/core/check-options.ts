import { InvalidOptionError } from "./errors.ts";

/** The error for an option that breaks a rule; the message says which rule, and what was received. */
export function refused(option: string, rule: string, received: unknown): InvalidOptionError {
  return new InvalidOptionError(option, `it ${rule}, got ${describe(received)}`);
}

/** The value, if it is a whole number within these bounds. Throws InvalidOptionError. */
export function wholeNumber(option: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw refused(option, `must be a whole number from ${least} to ${most}`, value);
}

function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 80));
  if (value === null || typeof value !== "object") return String(value);
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? "an invalid Date" : value.toISOString();
  }
  return Array.isArray(value) ? "an array" : "an object";
}

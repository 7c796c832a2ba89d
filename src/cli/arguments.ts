import { InvalidArgumentError } from "commander";
import { PRIORITIES } from "../core/define-job.ts";
import { type Duration, toMs } from "../core/durations.ts";

/** Readers of single arguments. Each throws commander's InvalidArgumentError, which names the option. */

const LARGEST_ID = 9_223_372_036_854_775_807n;

export function jobId(text: string): string {
  if (/^[1-9]\d{0,18}$/.test(text) && BigInt(text) <= LARGEST_ID) return text;
  throw new InvalidArgumentError("A job's id is a positive whole number.");
}

/** For arguments that may be given several times, or as a list with commas. */
export function jobIds(text: string, before: readonly string[] = []): string[] {
  return [...before, ...text.split(",").map((one) => jobId(one.trim()))];
}

export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(
      `It must be a whole number from ${least} to ${most.toLocaleString("en-US")}.`,
    );
  };
}

export function durationMs(text: string): number {
  try {
    return toMs(/^\d+$/.test(text) ? Number.NaN : (text as Duration), "duration");
  } catch {
    throw new InvalidArgumentError(
      "It must be a length of time such as 500ms, 30s, 10m, 2h or 7d.",
    );
  }
}

export function pointInTime(text: string): Date {
  const [day = ""] = /^\d{4}-\d{2}-\d{2}/.exec(text) ?? [];
  const at = new Date(text);
  // A day that its month does not have would be taken for one of the next. The database knows no year 0.
  const isDay = day >= "0001" && new Date(`${day}T00:00Z`).toJSON()?.startsWith(day);
  if (isDay && !Number.isNaN(at.getTime())) return at;
  throw new InvalidArgumentError("It must be a time such as 2026-12-31T18:00:00Z.");
}

export const STATUSES = [
  "blocked",
  "scheduled",
  "pending",
  "processing",
  "completed",
  "failed",
  "cancelled",
] as const;

export const PRIORITY_NAMES: readonly string[] = PRIORITIES;

/** `mail=20,report=2`: how many jobs of each queue run at a time; `*` stands for all others. */
export function queueShares(text: string): Record<string, number> {
  const shares: Record<string, number> = {};
  for (const part of text.split(",")) {
    const [, name, amount] = /^\s*([^\s=]+)(?:=(\d+))?\s*$/.exec(part) ?? [];
    if (name === undefined || amount === "0") {
      throw new InvalidArgumentError("It must look like mail=20,report=2 or mail,report.");
    }
    shares[name] = amount === undefined ? 0 : Number(amount);
  }
  return shares;
}

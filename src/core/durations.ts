import { refused } from "./check-options.ts";

type Unit = "ms" | "s" | "m" | "h" | "d";

/** A length of time: milliseconds as a number, or a text such as `"500ms"`, `"30s"`, `"10m"`, `"1h30m"`, `"2d"`. */
export type Duration = number | `${number}${Unit}` | `${number}${Unit}${number}${Unit}`;

const MS_PER_UNIT: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

const WHOLE = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/;
const PARTS = /(\d+(?:\.\d+)?)(ms|s|m|h|d)/g;

/** The duration in whole milliseconds. Throws InvalidOptionError, naming `option`, when it is none. */
export function toMs(duration: Duration, option: string): number {
  const ms = typeof duration === "number" ? duration : parse(duration);
  if (!Number.isFinite(ms) || ms < 0) {
    throw refused(option, 'must be milliseconds or a text like "30s", "10m", "1h30m"', duration);
  }
  return Math.round(ms);
}

function parse(text: string): number {
  if (typeof text !== "string" || !WHOLE.test(text)) return Number.NaN;
  let ms = 0;
  for (const [, amount, unit] of text.matchAll(PARTS)) {
    ms += Number(amount) * (MS_PER_UNIT[unit ?? ""] ?? Number.NaN);
  }
  return ms;
}

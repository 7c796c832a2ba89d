/** A count with thousands set apart: `12,400`. */
export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** A count with its noun: `1 job`, `12 jobs`. */
export function countOf(value: number, noun: string, plural: string = `${noun}s`): string {
  return `${count(value)} ${value === 1 ? noun : plural}`;
}

/** A length of time, as short as it stays useful: `38 ms`, `1.4 s`, `2 m 5 s`, `3 h 12 m`, `2 d`. */
export function duration(ms: number): string {
  const whole = Math.max(0, Math.round(ms));
  if (whole < 1_000) return `${whole} ms`;
  if (whole < 59_950) return `${(whole / 1_000).toFixed(1)} s`;
  const seconds = Math.round(whole / 1_000);
  if (seconds < 3_600) return pair(seconds, 60, "m", "s");
  if (seconds < 86_400) return pair(Math.round(seconds / 60), 60, "h", "m");
  return pair(Math.round(seconds / 3_600), 24, "d", "h");
}

function pair(value: number, base: number, large: string, small: string): string {
  const rest = value % base;
  return `${Math.floor(value / base)} ${large}${rest === 0 ? "" : ` ${rest} ${small}`}`;
}

/** The time of day on this machine: `12:04:31`. */
export function clockTime(date: Date): string {
  return date.toTimeString().slice(0, 8);
}

/** A point in time seen from now: `4 s ago`, `in 2 m`. */
export function distance(at: Date, now: Date): string {
  const ms = at.getTime() - now.getTime();
  const rough = inOneUnit(Math.abs(ms));
  return ms > 0 ? `in ${rough}` : `${rough} ago`;
}

function inOneUnit(ms: number): string {
  const [unit, name] = UNITS.find(([size]) => ms >= size) ?? [1_000, "s"];
  return `${Math.floor(ms / unit)} ${name}`;
}

const UNITS: readonly (readonly [number, string])[] = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "m"],
  [1_000, "s"],
];

/** Date and time on this machine, to the second: `2026-11-22 12:04:31`. */
export function dateTime(at: Date): string {
  const date = [at.getFullYear(), at.getMonth() + 1, at.getDate()]
    .map((part) => String(part).padStart(2, "0"))
    .join("-");
  return `${date} ${clockTime(at)}`;
}

/** The first line of a text, cut to a width with an ellipsis. */
export function oneLine(text: string, width: number): string {
  const [first = "", ...more] = text.trim().split(/\r?\n/);
  const clean = first.replace(/\p{Cc}/gu, " ").trimEnd();
  const isCut = more.some((line) => line.trim() !== "");
  if (clean.length <= width) return isCut && clean.length < width ? `${clean}…` : clean;
  return `${clean.slice(0, Math.max(0, width - 1))}…`;
}

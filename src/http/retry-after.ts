/** Nobody waits longer because a header says so. */
const LONGEST_MS = 24 * 3_600_000;

/**
 * The header Retry-After (RFC 9110, section 10.2.3) as milliseconds from `now` on, at most a day: whole seconds, or a date. Undefined
 * for none, and for what is neither.
 */
export function retryAfterMs(header: string | null, now: number): number | undefined {
  const text = header?.trim() ?? "";
  if (text === "") return undefined;
  const isDate = /^[A-Z][a-z]{2,8}, /.test(text);
  const ms = /^\d+$/.test(text) ? Number(text) * 1_000 : isDate ? Date.parse(text) - now : NaN;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), LONGEST_MS);
}

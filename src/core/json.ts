import { InvalidPayloadError, InvalidResultError } from "./errors.ts";
import { type Fault, findLoss } from "./lossless.ts";

export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

/** NUL, and surrogates that have lost their other half (with the u flag, whole pairs don't match). */
// biome-ignore lint/suspicious/noControlCharactersInRegex: NUL is what we look for.
const UNSTORABLE = /\u0000|\p{Surrogate}/gu;

/** Whether Postgres keeps a text as it is. */
export function isStorable(text: string): boolean {
  return text.search(UNSTORABLE) < 0;
}

/** Replaces what Postgres cannot keep in a text: NUL, and halves of surrogate pairs. */
export function storableText(text: string): string {
  return text.replace(UNSTORABLE, "\uFFFD");
}

/** The input of a job as JSON. Throws InvalidPayloadError with the path when Postgres could not keep it. */
export function encodePayload(value: unknown): string {
  const text = stringify(value, (path, reason) => new InvalidPayloadError(path, reason));
  if (!looksHostile(text)) return text;
  // Looked for in what will be stored: a toJSON may have put it there.
  const fault = findFault(JSON.parse(text), "");
  if (fault) throw new InvalidPayloadError(fault.path, fault.reason);
  return text;
}

/** The longest result, in characters of JSON. Larger things belong into a table or a bucket, and their address into the result. */
const MAX_RESULT_CHARS = 1_048_576;

/**
 * The result of a job as JSON, or null when there is none.
 *
 * Characters that Postgres cannot keep are replaced: the work is done, and a stray NUL is no reason to do it again.
 * Throws InvalidResultError for what JSON cannot say at all, with the path, and for what is too long.
 */
export function encodeResult(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  const text = stringify(value, (path, reason) => new InvalidResultError(path, reason));
  if (text.length > MAX_RESULT_CHARS) {
    throw new InvalidResultError("", `it is longer than ${MAX_RESULT_CHARS} characters`, {
      hint: "Keep large results elsewhere and return where they are.",
    });
  }
  return looksHostile(text) ? replaceEscapes(text) : text;
}

/** A quick look for escapes that jsonb refuses; may be wrong about texts that contain a backslash. */
function looksHostile(text: string): boolean {
  return text.includes("\\u0000") || text.includes("\\ud");
}

/** Swaps the escapes of NUL and of lone surrogates for U+FFFD; an escaped backslash before them is not theirs. */
function replaceEscapes(text: string): string {
  return text.replace(/\\(?:u0000|ud[89a-f][0-9a-f]{2}|.)/g, (found) =>
    found.length > 2 ? "\\ufffd" : found,
  );
}

function stringify(value: unknown, fault: (path: string, reason: string) => Error): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (cause) {
    const found = findFault(value, "");
    const error = fault(found?.path ?? "", found?.reason ?? "it cannot be written as JSON");
    error.cause = cause;
    throw error;
  }
  if (value === undefined) return "null";
  const loss = findLossIn(value);
  if (loss) throw fault(loss.path, loss.reason);
  if (text !== undefined) return text;
  throw fault("", `a ${typeof value} cannot be written as JSON`);
}

/** What is nested so deeply that looking at it fails was written all the same; the database will judge. */
function findLossIn(value: unknown): Fault | undefined {
  try {
    return findLoss(value);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    return { path: "", reason: "reading it throws an error" };
  }
}

/** Deeper than Postgres' own parser goes with its default stack. */
const MAX_DEPTH = 1_000;

function findFault(
  value: unknown,
  path: string,
  above: readonly unknown[] = [],
): Fault | undefined {
  if (typeof value === "bigint") {
    return { path, reason: "a bigint cannot be written as JSON; pass it as a string" };
  }
  if (typeof value === "string") {
    if (value.includes("\u0000")) return { path, reason: "a text must not contain NUL" };
    if (!isStorable(value)) return { path, reason: "a text contains half a surrogate pair" };
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  if (above.includes(value)) return { path, reason: "it contains itself" };
  if (above.length >= MAX_DEPTH) return { path: "", reason: "it is nested too deeply" };
  return findFaultWithin(value, path, [...above, value]);
}

function findFaultWithin(
  value: object,
  path: string,
  above: readonly unknown[],
): Fault | undefined {
  try {
    if ("toJSON" in value && typeof value.toJSON === "function") return undefined;
    for (const [key, member] of Object.entries(value)) {
      const place = Array.isArray(value) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`;
      if (findFault(key, place))
        return { path: place, reason: "a key contains NUL or half a surrogate pair" };
      const fault = findFault(member, place, above);
      if (fault) return fault;
    }
    return undefined;
  } catch {
    return { path, reason: "reading it throws an error" };
  }
}

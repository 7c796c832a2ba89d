import type { JobErrorJson } from "./errors.ts";
import { storableText } from "./json.ts";

/** The most that is kept of a message or a stack, in UTF-8 bytes. */
export const MAX_TEXT_BYTES = 8_192;

const MAX_NAME_BYTES = 256;
/** What is kept of the texts of causes and of the errors of an AggregateError. */
const MAX_INNER_BYTES = 1_024;
const MAX_CAUSES = 4;
const MAX_ERRORS = 5;

/**
 * Anything a handler can throw, as JSON that Postgres accepts, of some 60 KiB at most.
 *
 * Never throws: not for NUL, lone surrogates, ten megabytes of text, cyclic causes, getters that throw, or revoked proxies.
 */
export function toJobError(thrown: unknown): JobErrorJson {
  try {
    return convert(thrown, 0);
  } catch {
    return { name: "NonError", message: "a value that cannot be read" };
  }
}

function convert(thrown: unknown, depth: number): JobErrorJson {
  const maxBytes = depth === 0 ? MAX_TEXT_BYTES : MAX_INNER_BYTES;
  if (!isErrorLike(thrown)) return { name: "NonError", message: clip(show(thrown), maxBytes) };
  const stack = read(thrown, "stack");
  const code = read(thrown, "code");
  const cause = depth < MAX_CAUSES ? read(thrown, "cause") : undefined;
  const errors = depth === 0 ? listOf(read(thrown, "errors")) : [];
  return {
    name: clip(text(read(thrown, "name")) ?? "Error", MAX_NAME_BYTES),
    message: clip(text(read(thrown, "message")) ?? "", maxBytes),
    ...(typeof stack === "string" && { stack: clip(stack, maxBytes) }),
    ...((typeof code === "string" || typeof code === "number") && {
      code: clip(String(code), MAX_NAME_BYTES),
    }),
    ...(cause !== undefined && cause !== null && { cause: convert(cause, depth + 1) }),
    ...(errors.length > 0 && { errors: errors.map((each) => convert(each, MAX_CAUSES)) }),
  };
}

/** Anything that is given as a reason, as a text that Postgres can keep, of 8 KiB at most. Never throws. */
export function toReason(value: unknown): string {
  try {
    if (!isErrorLike(value)) return clip(show(value), MAX_TEXT_BYTES);
    const { name, message } = toJobError(value);
    return clip(message === "" ? name : `${name}: ${message}`, MAX_TEXT_BYTES);
  } catch {
    return "a value that cannot be read";
  }
}

/** The first members of an array; nothing of what is none, or cannot be read. */
function listOf(value: unknown): unknown[] {
  try {
    return Array.isArray(value) ? value.slice(0, MAX_ERRORS) : [];
  } catch {
    return [];
  }
}

/** At most `maxBytes` bytes of a text that Postgres can keep, cut between characters. */
export function clip(value: string, maxBytes: number): string {
  // Each UTF-16 unit takes at least a byte, so the cheap cut first keeps huge texts from being encoded.
  const head = storableText(value.slice(0, maxBytes));
  const bytes = new TextEncoder().encode(head);
  if (bytes.length <= maxBytes) return head;
  let end = maxBytes;
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return new TextDecoder().decode(bytes.subarray(0, end));
}

function isErrorLike(value: unknown): value is object {
  try {
    return (
      value instanceof Error ||
      (typeof value === "object" && value !== null && "message" in value && "name" in value)
    );
  } catch {
    return false;
  }
}

function read(object: object, key: string): unknown {
  try {
    return (object as Record<string, unknown>)[key];
  } catch {
    return undefined;
  }
}

function text(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : show(value);
}

/** Some words for a value of any kind. */
function show(value: unknown): string {
  try {
    if (typeof value === "string") return value;
    if (typeof value === "function") return `function ${value.name || "without a name"}`;
    if (typeof value === "object" && value !== null) return JSON.stringify(value) ?? String(value);
    return String(value);
  } catch {
    return "a value that cannot be shown";
  }
}

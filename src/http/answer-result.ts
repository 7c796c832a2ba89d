/** The most of an answer that is read, and the most of its JSON that is kept. */
export const MOST_CHARS: number = 1024 * 1024;
/** Ends what was cut. */
const MARK = "… (cut: the answer is longer than 1 MiB)";
/** Deeper than this neither Postgres nor JSON.stringify may get. */
const MOST_LEVELS = 1_000;

/** What a function answered, as the result of its job. */
export interface AnswerResult {
  readonly result: unknown;
  /** Why the result is not the JSON that was meant. */
  readonly note?: string;
}

/**
 * The result that a 2xx answer stands for. The work is done whatever was said of it, so there always is one: what is no JSON is kept as text.
 *
 * JSON by its content type is read as such. An answer without a type, or as text/plain, which is what `new Response(text)` says by itself, is
 * read as JSON when it is an object or an array. Everything else is text.
 */
export function answerResult(text: string, contentType: string | null): AnswerResult {
  if (text.trim() === "") return { result: null };
  const type = (contentType ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  const saysJson = type === "application/json" || type.endsWith("+json") || type === "text/json";
  const mayBeJson = (type === "" || type === "text/plain") && /^\s*[[{]/.test(text);
  if (text.length > MOST_CHARS) {
    return { result: cut(text), note: "the answer is longer than 1 MiB: its beginning was kept" };
  }
  if (!saysJson && !mayBeJson) return asText(text);
  if (isTooDeep(text)) return { ...asText(text), note: "the answer is nested too deeply" };
  const value = parse(text);
  if (value === undefined) {
    return {
      ...asText(text),
      ...(saysJson && { note: "the answer says that it is JSON, and is not" }),
    };
  }
  // Numbers may become longer when they are written again.
  if (JSON.stringify(value).length > MOST_CHARS) {
    return { result: cut(text), note: "the answer is longer than 1 MiB: its beginning was kept" };
  }
  return { result: value };
}

function asText(text: string): AnswerResult {
  return { result: cut(text) };
}

/** As much of a text as fits, written as JSON; what was cut ends with a mark. */
function cut(text: string): string {
  if (text.length <= MOST_CHARS && JSON.stringify(text).length <= MOST_CHARS) return text;
  let most = Math.min(text.length, MOST_CHARS - MARK.length - 2);
  // A character takes up to six when it is written as an escape.
  for (;;) {
    const kept = text.slice(0, most) + MARK;
    const over = JSON.stringify(kept).length - MOST_CHARS;
    if (over <= 0) return kept;
    most = Math.max(0, most - Math.max(1, Math.ceil(over / 6)));
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isTooDeep(text: string): boolean {
  let depth = 0;
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const sign = text[at];
    if (isQuoted) {
      if (sign === "\\") at += 1;
      else if (sign === '"') isQuoted = false;
    } else if (sign === '"') isQuoted = true;
    else if (sign === "[" || sign === "{") {
      depth += 1;
      if (depth > MOST_LEVELS) return true;
    } else if (sign === "]" || sign === "}") depth -= 1;
  }
  return false;
}

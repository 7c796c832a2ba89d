import assert from "node:assert/strict";
import { blocksOf } from "./blocks.ts";

type Json = Readonly<Record<string, unknown>>;

/** Objects whose fields are named by the reader's data. */
const MAPS: ReadonlySet<string> = new Set(["types", "attempts", "fields", "payload"]);

/** The documents of a page's json blocks: a block is one, or one a line. */
export async function documentsOf(page: string): Promise<Json[]> {
  return (await blocksOf(page, "json")).flatMap(({ code }) => {
    const isWhole = code.startsWith("{\n");
    return (isWhole ? [code] : code.trim().split("\n")).map((text) => JSON.parse(text) as Json);
  });
}

/** The one document of a page that begins with this field, and this value if one is given. */
export async function documented(page: string, field: string, value?: unknown): Promise<Json> {
  const found = (await documentsOf(page)).filter(
    (one) => Object.keys(one)[0] === field && (value === undefined || one[field] === value),
  );
  assert.equal(found.length, 1, `documents with ${field} in ${page}`);
  return found[0] as Json;
}

/** Fails unless both have the same fields, of the same kinds; null may stand for anything. */
export function assertShape(actual: unknown, expected: unknown, at = "$"): void {
  if (actual === null || expected === null) return;
  assert.equal(kindOf(actual), kindOf(expected), at);
  if (Array.isArray(actual) && Array.isArray(expected)) {
    if (actual.length > 0 && expected.length > 0) assertShape(actual[0], expected[0], `${at}[0]`);
  } else if (typeof actual === "object" && typeof expected === "object") {
    const [is, should] = [actual as Json, expected as Json];
    assert.deepEqual(Object.keys(is).sort(), Object.keys(should).sort(), at);
    for (const [name, value] of Object.entries(should)) {
      if (!MAPS.has(name)) assertShape(is[name], value, `${at}.${name}`);
    }
  }
}

interface Event {
  readonly event: string;
}

/** Fails unless these events are among those that a command printed, in the shape that docs/cli.md shows. */
export async function assertEvents(
  printed: readonly Event[],
  names: readonly string[],
): Promise<void> {
  for (const name of names) {
    const found = printed.filter(({ event }) => event === name);
    assert.ok(found.length > 0, `no event ${name}`);
    const expected = await documented("docs/cli.md", "event", name);
    for (const event of found) assertShape(event, expected, name);
  }
}

function kindOf(value: unknown): string {
  return Array.isArray(value) ? "array" : typeof value;
}

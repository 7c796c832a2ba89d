import type { Queryable, QueryOptions, SqlParam } from "./sql.ts";

/**
 * Runs a statement that answers with one text: the JSON of whatever it has to say. All wrappers do so, because then every
 * driver, whatever its settings for types and column names, gives the same answer, and JSON is parsed once.
 */
export async function callJson(
  db: Queryable,
  text: string,
  params: readonly SqlParam[] = [],
  options: Pick<QueryOptions, "signal"> = {},
): Promise<unknown> {
  const answer = await callText(db, text, params, options);
  // A function that returns void answers with the empty text.
  return answer ? JSON.parse(answer) : null;
}

/** The same, for a caller that parses the text itself. */
export async function callText(
  db: Queryable,
  text: string,
  params: readonly SqlParam[] = [],
  options: Pick<QueryOptions, "signal"> = {},
): Promise<string | null> {
  const [row] = await db.query(text, params, { ...options, prepare: params.length > 0 });
  const [value] = row ? Object.values(row) : [];
  return typeof value === "string" ? value : null;
}

/** An array as Postgres writes it, for `$1::text::bigint[]`; null stays null. */
export function numberArray(values: readonly (string | number)[] | null): string | null {
  return values && `{${values.join(",")}}`;
}

/** An array of texts as Postgres writes it, for `$1::text::text[]`; null stays null. */
export function textArray(values: readonly string[] | null): string | null {
  return values && `{${values.map((value) => `"${value.replace(/["\\]/g, "\\$&")}"`).join(",")}}`;
}

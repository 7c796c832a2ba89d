import assert from "node:assert/strict";
import type { TestSql } from "../support/connect.ts";

/**
 * Calls a function of the contract as PostgREST does for `supabase.rpc(name, args)`: arguments by
 * name, out of one JSON object, and the answer as JSON; a function of rows answers an array.
 */
export async function rpc(
  sql: TestSql,
  name: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  const functions = await sql<{ isSet: boolean; parameters: Record<string, string> }[]>`
    select p.proretset as "isSet", coalesce((
      select json_object_agg(p.proargnames[given.position], format_type(given.type, null))
      from unnest(p.proargtypes::oid[]) with ordinality as given (type, position)
    ), '{}') as parameters
    from pg_proc as p where p.pronamespace = 'public'::regnamespace and p.proname = ${name}`;
  assert.equal(functions.length, 1, `one function ${name}`);
  const { isSet, parameters } = functions[0] ?? assert.fail();

  const given = Object.keys(args);
  const columns = given.map((arg) => {
    assert.ok(arg in parameters, `${name} has no parameter ${arg}`);
    return `"${arg}" ${parameters[arg]}`;
  });
  const source =
    given.length > 0
      ? `json_to_record($1::text::json) as given (${columns})`
      : "(select $1::text) as given";
  const call = `public."${name}"(${given.map((arg) => `"${arg}" := given."${arg}"`)})`;
  const rows = await sql.unsafe<{ answer: unknown }[]>(
    `select to_json(answer) as answer from ${source}, lateral ${call} as answer`,
    [JSON.stringify(args)],
  );
  const answers = rows.map(({ answer }) => answer);
  return isSet ? answers : answers[0];
}

import type { Sql, SqlParam } from "../../src/db/sql.ts";

export interface Sent {
  readonly text: string;
  readonly params: readonly SqlParam[];
}

/** The same database, with all that is sent to it written down. */
export function recording(sql: Sql): { readonly sql: Sql; readonly sent: Sent[] } {
  const sent: Sent[] = [];
  return {
    sent,
    sql: {
      ...sql,
      query: (text, params = [], options) => {
        sent.push({ text, params });
        return sql.query(text, params, options);
      },
      transaction: (work) => {
        sent.push({ text: "begin", params: [] });
        return sql.transaction(work);
      },
    },
  };
}

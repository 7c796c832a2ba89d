import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import { pgbouncerMissing, startPgBouncer } from "../support/pgbouncer.ts";
import { describeWithDatabase } from "../support/suite.ts";

const CALLERS = 40;
const EACH = 10;
/** A statement without an answer is one too many. */
const PATIENCE_MS = 20_000;

describeWithDatabase("a pooler in transaction mode that nobody told of", (context) => {
  for (const poolSize of [1, 2]) {
    it(
      `gives each of many statements its own answer, with ${poolSize} connections`,
      { skip: pgbouncerMissing },
      async () => {
        const bouncer = await startPgBouncer(context.db, { poolSize });
        const sql = connect(bouncer.url, { pooled: false });
        try {
          const callers = [...Array(CALLERS).keys()].map(async (caller) => {
            const answers: unknown[] = [];
            for (let turn = 0; turn < EACH; turn += 1) {
              // Some are prepared, some are not, and of some the driver has not heard before.
              const [row] = await sql.query(
                `select $1::int * 1000 + $2::int as n${turn % 2 === 0 ? caller : ""}`,
                [caller, turn],
                { prepare: turn % 3 !== 0, signal: AbortSignal.timeout(PATIENCE_MS) },
              );
              answers.push(Object.values(row ?? {})[0]);
            }
            return answers;
          });
          assert.deepEqual(
            await Promise.all(callers),
            [...Array(CALLERS).keys()].map((caller) =>
              [...Array(EACH).keys()].map((turn) => caller * 1000 + turn),
            ),
          );
        } finally {
          await sql.close();
          await bouncer.stop();
        }
      },
    );
  }
});

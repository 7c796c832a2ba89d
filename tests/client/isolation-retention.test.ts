import assert from "node:assert/strict";
import { after, it } from "node:test";
import pg from "pg";
import { toSql } from "../../src/db/detect.ts";
import { connect } from "../../src/db/postgres-js.ts";
import { dropOldPartitions } from "../../src/db/worker-functions.ts";
import { describeOnEachServer } from "../support/suite.ts";

const DAY_MS = 86_400_000;

describeOnEachServer("retention where the default isolation is stricter", (context) => {
  after(() =>
    context.db.superSql.unsafe(
      `alter database ${context.db.name} reset default_transaction_isolation`,
    ),
  );

  it("drops what is old by each driver, because it asks for read committed", async (t) => {
    const { db } = context;
    await db.superSql.unsafe(
      `alter database ${db.name} set default_transaction_isolation = 'repeatable read'`,
    );
    const [own, pool] = [connect(db.url), new pg.Pool({ connectionString: db.url, max: 1 })];
    t.after(() => Promise.all([own.close(), pool.end()]));
    for (let n = 0; n < 5; n += 1) {
      await db.sql`select queue.maintain()`;
      await db.sql`select nextval('queue.job_ids')`;
      await db.advance(DAY_MS + 1_000);
      await db.sql`select queue.maintain()`;
    }
    await db.advance(9 * DAY_MS);

    const dropped = [await dropOldPartitions(own), await dropOldPartitions(toSql(pool))];
    const failures = await db.sql`select part from queue.failures`;

    assert.deepEqual([dropped, failures.length], [[1, 1], 0]);
  });
});

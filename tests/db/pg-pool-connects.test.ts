import assert from "node:assert/strict";
import { it } from "node:test";
import pg from "pg";
import { fromPg } from "../../src/db/pg.ts";
import { startFaultyProxy } from "../support/faulty-proxy.ts";
import { describeOnEachServer } from "../support/suite.ts";

describeOnEachServer("connections of a node-postgres pool that are being made", (context) => {
  for (const options of [{}, { connectionTimeoutMillis: 0 }]) {
    it(`end when the server accepts and says nothing (${JSON.stringify(options)})`, async () => {
      const proxy = await startFaultyProxy(context.db.url);
      const pool = new pg.Pool({ connectionString: proxy.url, max: 2, ...options });
      const sql = fromPg(pool as never, { connectTimeoutMs: 500 });
      try {
        proxy.swallowNew(true);
        const waits = [1, 2, 3].map(() =>
          sql.query("select 1", [], { signal: AbortSignal.timeout(100) }),
        );
        for (const { status } of await Promise.allSettled(waits)) assert.equal(status, "rejected");
        proxy.swallowNew(false);
        // Nobody waits for them any more, but they held both of the pool's places.
        assert.deepEqual(
          await sql.query("select 2 as two", [], { signal: AbortSignal.timeout(5_000) }),
          [{ two: 2 }],
        );
        await pool.end();
      } finally {
        await proxy.close();
      }
    });
  }

  it("keep the limit that the pool was given", async () => {
    const pool = new pg.Pool({ connectionString: context.db.url, connectionTimeoutMillis: 4_000 });
    const { Client } = pool as unknown as { Client: unknown };
    fromPg(pool as never);
    assert.equal((pool as unknown as { Client: unknown }).Client, Client);
    await pool.end();
  });
});

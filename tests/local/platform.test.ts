import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import {
  type LocalPlatformHandle,
  startLocalPlatform,
} from "../../src/local/start-local-platform.ts";
import { eventually } from "../support/eventually.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { makeProject, type Project } from "./project.ts";

describeWithDatabase(
  "the local platform around a database",
  (context) => {
    let project: Project;
    let sql: Sql;
    before(async () => {
      sql = connect(context.db.url);
      project = await makeProject({
        "other/index.ts": "export default { fetch: () => new Response('other') };\n",
      });
    });
    after(async () => {
      await sql.close();
      await project.remove();
    });

    const start = (options: { hasStandIns: boolean }): Promise<LocalPlatformHandle> =>
      startLocalPlatform({
        projectDir: project.dir,
        sql,
        databaseUrl: context.db.url,
        env: process.env,
        port: 0,
        graceMs: 500,
        ...options,
      });
    const secrets = async (): Promise<Record<string, string>> => {
      const rows = await context.db.sql<{ name: string; decrypted_secret: string }[]>`
        select name, decrypted_secret from vault.decrypted_secrets`;
      return Object.fromEntries(rows.map((row) => [row.name, row.decrypted_secret]));
    };

    it("without a queue worker there is nobody to ring, but requests are sent", async () => {
      const platform = await start({ hasStandIns: true });
      try {
        assert.equal(platform.hasDoorbell, false);
        assert.deepEqual(await secrets(), {});
        await context.db.sql`select net.http_post(${`${platform.server.functionsUrl}/other`})`;
        await eventually(async () => {
          const rows = await context.db.sql`select content from net._http_response`;
          return rows[0]?.["content"] === "other";
        });
      } finally {
        await platform.stop();
      }
    });

    it("rings with the token of .env, the newer one, and forgets its own address only", async () => {
      await project.write({
        "queue-worker/index.ts": "export default { fetch: () => new Response() };\n",
        "queue-worker/.env": "QUEUE_WORKER_TOKEN=newer, older\n",
      });
      const first = await start({ hasStandIns: true });
      const second = await start({ hasStandIns: true });
      const url = `${second.server.functionsUrl}/queue-worker`;
      try {
        assert.equal(first.hasDoorbell, true);
        assert.deepEqual(await secrets(), { queue_worker_url: url, queue_worker_token: "newer" });

        await first.stop();
        assert.equal((await secrets())["queue_worker_url"], url);
      } finally {
        await first.stop();
        await second.stop();
        await second.stop();
      }
      assert.deepEqual(await secrets(), { queue_worker_token: "newer" });
    });

    it("without stand-ins it sends nothing", async () => {
      const platform = await start({ hasStandIns: false });
      try {
        assert.equal(platform.hasDoorbell, false);
        assert.equal((await secrets())["queue_worker_url"], undefined);
      } finally {
        await platform.stop();
      }
    });
  },
  { pooler: false },
);

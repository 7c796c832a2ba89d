/** `deno test` of the Edge Function, with the permissions that the documents name, on the Deno of Supabase's runtime and on a new one. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { spawnProcess } from "../support/processes.ts";
import { describeWithDatabase } from "../support/suite.ts";

const TEST = "supabase/functions/queue-worker/queue-worker.test.ts";
const NEW = fileURLToPath(new URL("../../node_modules/.bin/deno", import.meta.url));
const OLD = process.env["MILLRACE_DENO_2_1"];

describeWithDatabase(
  "deno test of the queue worker",
  (context) => {
    for (const [version, path] of [
      ["2.9.5", NEW],
      ["2.1.4", OLD],
    ] as const) {
      const skip = path
        ? false
        : `needs Deno ${version} (npm package deno@${version}), its program named by MILLRACE_DENO_2_1`;
      it(`passes on Deno ${version}`, { skip }, async () => {
        const program = spawnProcess(path ?? "", {
          args: ["test", TEST, "--allow-net", "--allow-env"],
          env: { DATABASE_URL: context.db.url, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
        });
        const { code } = await program.exited;

        assert.equal(code, 0, program.output());
        assert.match(program.output(), /ok \| 11 passed \| 0 failed/);
      });
    }

    it("says in a line what it needs without a database", async () => {
      const program = spawnProcess(NEW, {
        args: ["test", "--no-check", TEST, "--allow-net", "--allow-env"],
        env: { DATABASE_URL: undefined, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
      });
      const { code } = await program.exited;

      assert.equal(code, 0, program.output());
      assert.match(program.output(), /skipped: DATABASE_URL names no Postgres/);
    });
  },
  { pooler: false },
);

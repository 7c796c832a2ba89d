import assert from "node:assert/strict";
import { it, test } from "node:test";
import { isDriverFault } from "../../src/db/driver-fault.ts";
import { spawnScript } from "../support/processes.ts";
import { describeWithDatabase } from "../support/suite.ts";

describeWithDatabase(
  "a write of postgres.js to a connection that is gone",
  (context) => {
    it("is known when it comes up where nobody can catch it", async () => {
      const program = spawnScript(new URL("./driver-fault.fixture.ts", import.meta.url), {
        args: [context.db.url],
      });
      const { code } = await program.exited;

      assert.equal(program.output().trim(), "known");
      assert.equal(code, 0);
    });
    for (const kind of ["connect", "client"]) {
      it(`never comes of a transaction whose connection is cut, of ${kind === "connect" ? "connect()" : "a postgres.js client"}`, async () => {
        const program = spawnScript(new URL("./uncaught.fixture.ts", import.meta.url), {
          args: [context.db.url, kind],
        });
        const { code } = await program.exited;

        assert.deepEqual(JSON.parse(program.output()), { failed: 150, told: [] });
        assert.equal(code, 0);
      });
    }
  },
  { pooler: false },
);

test("no other error is taken for it", () => {
  const own = new TypeError("Cannot read properties of null (reading 'write')");
  function nextWrite(): never {
    throw new TypeError("mine");
  }

  assert.equal(isDriverFault(own), false);
  assert.throws(nextWrite, (error) => !isDriverFault(error));
  for (const other of [null, undefined, "nextWrite", new Error("nextWrite"), {}]) {
    assert.equal(isDriverFault(other), false);
  }
});

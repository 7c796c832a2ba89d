import assert from "node:assert/strict";
import { it } from "node:test";
import { applyMigrations } from "../support/prepare-cluster.ts";
import { describeOnEachServer } from "../support/suite.ts";

describeOnEachServer(
  "the queue's own clock, which tests replace elsewhere",
  (context) => {
    it("goes on inside a transaction", async () => {
      await applyMigrations(context.db.url);

      const [first, second] = await context.db.sql.begin(async (tx) => [
        ...(await tx`select queue.clock() as at, extract(epoch from queue.clock()) as seconds`),
        ...(await tx`select queue.clock() as at, extract(epoch from queue.clock()) as seconds`),
      ]);

      assert.ok(Number(second?.["seconds"]) > Number(first?.["seconds"]));
    });
  },
  { empty: true },
);

import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLogger } from "../../src/core/logger.ts";
import type { ClaimedRow } from "../../src/db/claimed-jobs.ts";
import { defineJob, implement } from "../../src/index.ts";
import { Events } from "../../src/worker/events.ts";
import { Intake } from "../../src/worker/intake.ts";
import type { Lane } from "../../src/worker/lane.ts";
import { LeaseBook } from "../../src/worker/lease-book.ts";
import { buildRoutes } from "../../src/worker/routes.ts";

function row(lease: string, id: string, type: string): ClaimedRow {
  return [lease, id, type, type, "normal", {}, null, 1, 3, 0, null, null];
}

test("a lease of jobs that there is no handler for is left to run out", () => {
  const book = new LeaseBook();
  const routes = buildRoutes([implement(defineJob("known"), () => undefined)], []);
  const events = new Events(silentLogger, undefined);
  const intake = new Intake({
    book,
    events,
    whyLost: () => undefined,
    logger: silentLogger,
    routes,
  });

  const jobs = [row("1", "10", "strange"), row("2", "11", "strange"), row("2", "12", "known")];
  const attempts = intake.adopt({ name: "*" } as Lane, { jobs, now: 0 }, 1_000);

  assert.deepEqual(
    attempts.map(({ id }) => id),
    ["12"],
  );
  assert.deepEqual(book.ids, ["2"], "kept for the job that is ours");
});

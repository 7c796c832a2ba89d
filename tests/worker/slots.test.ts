import assert from "node:assert/strict";
import { test } from "node:test";
import { defineJob, implement, silentLogger } from "../../src/index.ts";
import { Attempt } from "../../src/worker/attempt.ts";
import { Blocks } from "../../src/worker/blocks.ts";
import { Deadlines } from "../../src/worker/deadlines.ts";
import { Events } from "../../src/worker/events.ts";
import { Executor } from "../../src/worker/executor.ts";
import { Lane } from "../../src/worker/lane.ts";
import { LeaseBook } from "../../src/worker/lease-book.ts";
import { buildRoutes } from "../../src/worker/routes.ts";
import { fakeClock } from "../core/fake-clock.ts";

const SCOPE = {
  queueIds: null,
  exceptQueueIds: null,
  typeIds: "{1}",
  tenantId: null,
  perTenant: null,
};
const LANE = { name: "*", concurrency: 1, maxPrefetch: 0, batchSize: 1, horizonMs: 500 };

test("a slot comes free even when telling the end of its attempt throws", async () => {
  const clock = fakeClock();
  const routes = buildRoutes(
    [
      implement(defineJob("returns"), () => 1),
      implement(defineJob("throws"), () => {
        throw new Error("x");
      }),
      implement(defineJob("resolves"), async () => 1),
      implement(defineJob("rejects"), async () => {
        throw new Error("x");
      }),
    ],
    [],
  );
  const crashed: string[] = [];
  const fault = (): never => {
    throw new Error("this can't be told");
  };
  const verdicts = {
    returned: fault,
    threw: fault,
    crashed: (attempt: Attempt) => {
      attempt.state = "ended";
      crashed.push(attempt.type);
    },
  };
  const lane = new Lane(LANE, { scope: SCOPE, fitting: undefined }, clock);
  const events = new Events(silentLogger, undefined);
  const executor = new Executor({
    verdicts: verdicts as never,
    deadlines: new Deadlines(clock),
    events,
    blocks: new Blocks({ clock, events, leaseMs: 1_000 }),
    tools: { clock, logger: silentLogger, worker: () => 1 } as never,
    onFree: (free) => executor.fill(free),
  });
  const book = new LeaseBook();
  for (const [index, [type, route]] of [...routes].entries()) {
    const row = ["1", String(index), type, "q", "normal", null, null, 1, 3, 0, null, null] as const;
    lane.push(new Attempt(row, book.open(String(index), 1_000), lane, route, 0));
  }

  executor.fill(lane);
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();

  assert.deepEqual(crashed, ["returns", "throws", "resolves", "rejects"]);
  assert.deepEqual([lane.running, executor.running.size], [0, 0]);
});

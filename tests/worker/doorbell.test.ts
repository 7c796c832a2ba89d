import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLogger } from "../../src/core/logger.ts";
import type { Sql } from "../../src/db/sql.ts";
import { Doorbell } from "../../src/worker/doorbell.ts";
import { fakeClock } from "../core/fake-clock.ts";
import { gate } from "./rig.ts";

/** A doorbell that is heard through `hear`, and whose arming is answered when `answered` opens. */
async function rig() {
  const answered = gate();
  const calls: string[] = [];
  /** Whether a job might be brought, for each arming. */
  const wishes: boolean[] = [];
  let hear: (payload: string, channel: string) => void = () => undefined;
  const listen: Sql["listen"] = async (_channel, onPayload, { onListening }) => {
    hear = onPayload;
    onListening?.();
    return { ended: Promise.resolve() };
  };
  const doorbell = new Doorbell({
    sql: { listen } as Sql,
    clock: fakeClock(),
    logger: silentLogger,
    worker: () => 7,
    random: () => 0,
    arm: (isHeard) => {
      wishes.push(isHeard);
      return answered.opened.then(() => true);
    },
    onArmed: () => calls.push("armed"),
    onHeld: () => undefined,
    onRing: () => calls.push("rung"),
    offerChannel: "secret",
    onOffer: (offer) => calls.push(`offered ${offer.job[1]}`),
    onCancel: (lease, job) => calls.push(`cancel ${job} of ${lease}`),
  });
  await doorbell.run(new AbortController().signal);
  calls.length = 0;
  return {
    doorbell,
    answered,
    calls,
    wishes,
    hear: (payload: string, channel = "millrace") => hear(payload, channel),
  };
}

test("rings once, for its own worker", async () => {
  const { doorbell, answered, calls, hear } = await rig();
  answered.open();
  await doorbell.arm();
  assert.equal(doorbell.isArmed, true);

  hear("w:8");
  assert.equal(doorbell.isArmed, true);
  hear("w:7");

  assert.equal(doorbell.isArmed, false);
  assert.deepEqual(calls, ["armed", "rung"]);
});

test("is not armed when it rang before its arming was answered", async () => {
  const { doorbell, answered, calls, hear } = await rig();
  const arming = doorbell.arm();
  hear("w:7");
  answered.open();
  await arming;

  assert.equal(doorbell.isArmed, false);
  assert.deepEqual(calls, ["rung", "armed"], "and everybody looks once more");
});

test("passes on who is to be cancelled", async () => {
  const { calls, hear } = await rig();

  hear("c:12:34");

  assert.deepEqual(calls, ["cancel 34 of 12"]);
});

test("hands over a job that is brought, and has rung by that", async () => {
  const { doorbell, answered, calls, hear } = await rig();
  answered.open();
  await doorbell.arm();
  calls.length = 0;

  hear(JSON.stringify({ now: 1, expires_at: 2, job: ["9", "11"] }), "secret");

  assert.deepEqual(calls, ["offered 11"]);
  assert.equal(doorbell.isArmed, false);
});

test("believes no job that comes on the channel of all", async () => {
  const { calls, hear } = await rig();

  hear(JSON.stringify({ now: 1, expires_at: 2, job: ["9", "11"] }));
  hear("{}", "secret");

  assert.deepEqual(calls, []);
});

test("wants no job brought while it hears nothing of what it should", async () => {
  const { doorbell, answered, wishes, hear } = await rig();
  answered.open();
  await doorbell.arm();
  // A job was found by looking.
  doorbell.disarm();
  await doorbell.arm();
  hear("w:7");
  await doorbell.arm();

  assert.deepEqual(wishes, [true, false, true]);
});

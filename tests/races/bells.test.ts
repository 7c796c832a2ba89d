import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { withRace } from "./race.ts";

describeOnEachServer("a sign-out beside a call that arms bells", (context) => {
  it("waits for it, and takes back what it armed", () =>
    withRace(context.db, async ({ ann, bob, enqueue, type, untilItWaits, db }) => {
      await enqueue();
      const [me] = await db.sql<{ id: number }[]>`
        select (queue.register_worker('leaving', null, ${[type]}, ${[type]}) ->> 'worker')::integer as id`;
      const worker = me?.id ?? -1;
      await ann`begin`;
      await ann`
        select queue.arm_bells(${worker}, array(select id from queue.queues where name = ${type}), null)`;

      const late = await untilItWaits(bob, bob`select queue.unregister_worker(${worker})`);
      await ann`commit`;
      await late.answer;

      const bells = await db.superSql`select from queue.bells`;
      assert.equal(bells.length, 0, "a bell that stays is a job that is brought to nobody");
    }));
});

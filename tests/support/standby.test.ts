import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./connect.ts";
import { eventually } from "./eventually.ts";
import { missingMajor } from "./majors.ts";
import { startTestServer } from "./server.ts";
import { startStandby } from "./standby.ts";

test(
  "a standby has what its primary wrote, refuses writes, and takes them once it is promoted",
  { skip: missingMajor(15) ?? false },
  async () => {
    const primary = await startTestServer(15);
    const standby = await startStandby(primary);
    const [there, here] = [connect(primary.superUrl, { max: 1 }), connect(standby.superUrl)];
    try {
      await there.unsafe("create table seen (n integer); insert into seen values (1)");
      await standby.caughtUp();
      assert.equal((await here`select n from seen`)[0]?.["n"], 1);
      await assert.rejects(here`insert into seen values (2)`, { code: "25006" });

      await standby.halt("immediate");
      await there`insert into seen values (2)`;
      await standby.start();
      await standby.caughtUp();
      assert.equal((await eventually(() => here`select n from seen`)).length, 2);

      await primary.stop();
      await standby.promote();
      await here`insert into seen values (3)`;
    } finally {
      await Promise.all([there.end({ timeout: 1 }), here.end({ timeout: 1 })]);
      await standby.stop();
      await primary.stop();
    }
  },
);

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { judgeReplication } from "../../src/cli/doctor/recovery-checks.ts";
import type { ReplicationFacts } from "../../src/db/inspect-recovery.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { cli } from "./run.ts";

interface Finding {
  readonly check: string;
  readonly severity: string;
  readonly message: string;
  readonly fix: string | null;
}

describeWithDatabase("millrace doctor after a failover", (context) => {
  const run = (...argv: string[]) =>
    cli(["doctor", ...argv], { env: { DATABASE_URL: context.db.url } });

  async function finding(check: string): Promise<Finding | undefined> {
    const answer = await run("--json");
    return answer.json<{ findings: Finding[] }>().findings.find((one) => one.check === check);
  }

  it("tells what fits together, and how the server started", async () => {
    assert.deepEqual(
      [(await finding("records"))?.message, (await finding("start"))?.severity],
      ["Jobs, sequences, policies and grants fit together", "ok"],
    );
    const text = await run("--fix");
    assert.match(text.out, /^Nothing has to be repaired on /);
    assert.equal(text.code, 0);
  });

  it("warns for a day after a promotion, and after a restore", async () => {
    for (const [cause, words] of [
      [
        "promotion",
        /^A standby was promoted .* ago \(timeline 7\); ids of new jobs go on from 4711$/,
      ],
      ["restore", /^Restored from a dump .* ago$/],
    ] as const) {
      await context.db.superSql`
        insert into queue.generations (first_lease_id, begun_at, cause, timeline, first_job_id)
        select max(first_lease_id) + 1, queue.clock(), ${cause}, 7, 4711 from queue.generations`;

      const found = await finding("start");

      assert.equal(found?.severity, "warning");
      assert.match(found?.message ?? "", words);
      assert.match(found?.fix ?? "", /docs\/failover\.md/);
    }
    await context.db.advance(90_000_000);
    assert.equal((await finding("start"))?.severity, "ok");
  });

  it("--fix tells what it would repair, and repairs it with --yes", async () => {
    const { sql } = context.db;
    await sql`revoke execute on function queue.advance from millrace_worker`;
    const broken = await finding("records");
    assert.deepEqual([broken?.severity, broken?.fix?.includes("--fix")], ["error", true]);

    const dry = await run("--fix");
    assert.match(
      dry.out,
      /^· Functions that .*: 1: can be repaired\n1 repair: add --yes to make it\.\n$/,
    );
    assert.equal((await finding("records"))?.severity, "error");
    const done = await run("--fix", "--yes");
    assert.match(done.out, /^✓ .*: repaired\n$/);

    assert.equal((await finding("records"))?.severity, "ok");
    const json = await run("--fix", "--json");
    assert.deepEqual(json.json(), { dry_run: true, repairs: [] });
  });

  it("is for the owner: others are told that they may not", async () => {
    const url = await context.db.loginUrl("service_role");

    const refused = await cli(["doctor", "--fix"], { env: { DATABASE_URL: url } });

    assert.equal(refused.code, 1);
    assert.match(refused.err, /permission denied|may not/);
  });
});

describe("replication, judged", () => {
  const FACTS: ReplicationFacts = {
    isStandby: false,
    wanted: "",
    commit: "on",
    waiting: 0,
    standbys: [],
    seesAll: true,
  };
  const copy = (sync: string) => ({ name: "copy", sync });
  for (const [what, facts, severity, words] of [
    ["no standby", {}, "ok", /No standby/],
    ["an asynchronous one", { standbys: [copy("async")] }, "ok", /may lose/],
    ["a synchronous one", { wanted: "*", standbys: [copy("sync")] }, "ok", /loses nothing/],
    ["a standby itself", { isStandby: true }, "error", /takes no writes/],
    ["a synchronous one that is gone", { wanted: "copy" }, "error", /No standby of .*copy/],
    ["what it may not see", { wanted: "copy", seesAll: false }, "ok", /No standby/],
    ["commits that wait", { waiting: 2, wanted: "*" }, "error", /^2 sessions wait/],
  ] as const) {
    it(what, () => {
      const found = judgeReplication({ ...FACTS, ...facts });
      assert.equal(found.severity, severity);
      assert.match(found.message, words);
    });
  }
});

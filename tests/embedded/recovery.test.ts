import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { isAlive } from "../../src/embedded/process-alive.ts";
import { connect } from "../support/connect.ts";
import { eventually } from "../support/eventually.ts";
import { spawnScript } from "../support/processes.ts";
import { type ServerFolder, serverFolder } from "./folder.ts";

const HOLD = new URL("./hold-server.fixture.ts", import.meta.url);

describe("a local Postgres after a crash", () => {
  let folder: ServerFolder;
  beforeEach(async () => {
    folder = await serverFolder();
  });
  afterEach(async () => {
    await folder.remove();
  });

  it("is joined when the process that started it was killed, and then stopped in the end", async () => {
    const holder = spawnScript(HOLD, { args: [join(folder.path, "data")] });
    const said = await holder.waitFor(/holding \d+ \S+\n/);
    await holder.kill();

    const server = await folder.start();

    assert.equal(server.reused, true);
    assert.ok(said.includes(`holding ${server.pid} ${server.url}`));
    await server.stop();
    await eventually(() => !isAlive(server.pid));
  });

  it("recovers committed rows when the server itself was killed", async () => {
    const killed = await folder.start({ fsync: true });
    const sql = connect(killed.url, { max: 1 });
    await sql`create table kept as select 42 as answer`;
    process.kill(killed.pid, "SIGKILL");
    await sql.end({ timeout: 0 });

    const server = await folder.start({ fsync: true });

    const again = connect(server.url, { max: 1 });
    const [row] = await again`select answer from kept`;
    await again.end();
    assert.equal(row?.["answer"], 42);
    assert.equal(server.reused, false);
  });

  it("starts although a stale postmaster.pid names a process that is no Postgres", async () => {
    const first = await folder.start();
    await first.stop();
    await writeFile(
      join(first.clusterDir, "postmaster.pid"),
      `${process.pid}\n/x\n1\n1\n\n\n\nready\n`,
    );

    const server = await folder.start();

    assert.equal(server.reused, false);
  });

  it("starts although a killed process left its start lock behind", async () => {
    const first = await folder.start();
    await first.stop();
    await writeFile(join(folder.path, "data", "lock"), String(first.pid));

    const server = await folder.start();

    assert.equal(server.reused, false);
  });

  it("says so when the password was lost", async () => {
    const first = await folder.start();
    await first.stop();
    await rm(join(folder.path, "data", "server.json"));

    await assert.rejects(folder.start(), {
      code: "LOCAL_POSTGRES_DATA_UNUSABLE",
      message: /server\.json.* is missing/,
      hint: /Remove .* to begin anew/,
    });
  });
});

import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { isAlive } from "../../src/embedded/process-alive.ts";
import { connect } from "../support/connect.ts";
import { eventually } from "../support/eventually.ts";
import { type ServerFolder, serverFolder } from "./folder.ts";

describe("a local Postgres", () => {
  let folder: ServerFolder;
  before(async () => {
    folder = await serverFolder();
  });
  after(async () => {
    await folder.remove();
  });

  it("keeps its data, its password and its port from one run to the next", async () => {
    const first = await folder.start();
    await query(first.url, "create table kept as select 42 as answer");
    await first.stop();

    const second = await folder.start();

    assert.deepEqual(await query(second.url, "select answer from kept"), [{ answer: 42 }]);
    assert.equal(second.url, first.url);
    assert.equal(second.reused, false);
    await second.stop();
  });

  it("listens on loopback alone, without a socket file, and asks for a password", async () => {
    const server = await folder.start();

    const [settings] = await query(
      server.url,
      `select current_setting('listen_addresses') as host, current_setting('unix_socket_directories') as socket,
              current_setting('jit') as jit, current_setting('timezone') as zone`,
    );

    assert.deepEqual(settings, { host: "127.0.0.1", socket: "", jit: "off", zone: "UTC" });
    const wrong = new URL(server.url);
    wrong.password = "wrong";
    await assert.rejects(query(wrong.href, "select 1"), { code: "28P01" });
    await server.stop();
  });

  it("keeps the password in a file that only its owner can read", async () => {
    const { mode } = await stat(join(folder.path, "data", "server.json"));

    assert.equal(mode & 0o777, 0o600);
  });

  it("syncs to disk unless told otherwise", async () => {
    const server = await folder.start({ fsync: true });

    const [settings] = await query(
      server.url,
      "select current_setting('fsync') as fsync, current_setting('synchronous_commit') as commit",
    );

    assert.deepEqual(settings, { fsync: "on", commit: "on" });
    await server.stop();
  });

  it("is joined by a second start, and stopped by the last one who leaves", async () => {
    const first = await folder.start();
    const second = await folder.start();

    await first.stop();

    assert.equal(second.reused, true);
    assert.equal(second.url, first.url);
    assert.deepEqual(await query(second.url, "select 1 as alive"), [{ alive: 1 }]);
    await second.stop();
    await eventually(() => !isAlive(second.pid));
  });

  it("is one server when several start it at the same moment", async () => {
    const servers = await Promise.all([folder.start(), folder.start(), folder.start()]);

    assert.equal(new Set(servers.map((server) => server.pid)).size, 1);
    assert.equal(servers.filter((server) => server.reused).length, 2);
    await Promise.all(servers.map((server) => server.stop()));
  });

  it("can be stopped twice", async () => {
    const server = await folder.start();

    await server.stop();
    await server.stop();

    assert.equal(isAlive(server.pid), false);
  });

  it("takes another port when the one of the last run is taken", async () => {
    const first = await folder.start();
    await first.stop();
    const thief = createServer();
    await new Promise<void>((done) => thief.listen(first.port, "127.0.0.1", done));

    const second = await folder.start();

    assert.notEqual(second.port, first.port);
    await second.stop();
    thief.close();
  });
});

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const sql = connect(url, { max: 1 });
  try {
    return [...(await sql.unsafe(text))].map((row) => ({ ...row }));
  } finally {
    await sql.end();
  }
}

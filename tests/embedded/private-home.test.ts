import assert from "node:assert/strict";
import { chmod, cp, mkdir, readdir, realpath, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { findBinaries } from "../../src/embedded/binaries.ts";
import type { LocalPostgres } from "../../src/embedded/start-local-postgres.ts";
import { connect } from "../support/connect.ts";
import { type ServerFolder, serverFolder } from "./folder.ts";

/** As root the server runs under another account, which can enter neither the programs nor the data. */
describe("a local Postgres of a checkout under a home folder with mode 700", () => {
  const temporary = process.env["TMPDIR"];
  let folder: ServerFolder;
  let home: string;
  let clusterDir: string | undefined;

  before(async () => {
    folder = await serverFolder();
    home = join(folder.path, "home");
    await mkdir(home, { mode: 0o700 });
    const { binDir } = await findBinaries("embedded");
    await cp(dirname(await realpath(binDir)), join(home, "native"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    // Copies of the programs go to the temporary folder, and must not outlive this test.
    const copies = join(folder.path, "tmp");
    await mkdir(copies);
    await chmod(copies, 0o755);
    process.env["TMPDIR"] = copies;
  });
  after(async () => {
    await folder.remove();
    if (clusterDir) await rm(dirname(clusterDir), { recursive: true, force: true });
    if (temporary === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = temporary;
  });

  const start = async (): Promise<LocalPostgres> =>
    folder.start({ dataDir: join(home, "shop", ".millrace"), binaries: join(home, "native") });

  it("starts, and finds its data again", async () => {
    const first = await start();
    clusterDir = first.clusterDir;
    const sql = connect(first.url, { max: 1 });
    await sql`create table kept as select 42 as answer`;
    await sql.end();
    await first.stop();

    const second = await start();

    const again = connect(second.url, { max: 1 });
    const [row] = await again`select answer from kept`;
    await again.end();
    assert.equal(row?.["answer"], 42);
    assert.equal(second.clusterDir, first.clusterDir);
    await second.stop();
  });

  it("copies the programs once at most, and mends a copy that lost files", async () => {
    const copies = await readdir(join(folder.path, "tmp"));
    for (const copy of copies) {
      await rm(join(folder.path, "tmp", copy, "share", "postgresql", "timezonesets"), {
        recursive: true,
      });
    }

    const server = await start();

    assert.ok(copies.length <= 1);
    assert.deepEqual(await readdir(join(folder.path, "tmp")), copies);
    await server.stop();
  });
});

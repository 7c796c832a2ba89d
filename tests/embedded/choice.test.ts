import assert from "node:assert/strict";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { findBinaries } from "../../src/embedded/binaries.ts";
import { resolveDatabase } from "../../src/embedded/resolve-database.ts";
import { type ServerFolder, serverFolder } from "./folder.ts";

describe("the choice of a database", () => {
  let folder: ServerFolder;
  before(async () => {
    folder = await serverFolder();
  });
  after(async () => {
    await folder.remove();
  });

  it("falls on DATABASE_URL when it is set, and starts nothing", async () => {
    const database = await resolveDatabase(
      { DATABASE_URL: "postgres://ada@db.example/shop" },
      { dataDir: join(folder.path, "unused") },
    );

    assert.equal(database.source, "given");
    assert.equal(database.url, "postgres://ada@db.example/shop");
    await database.stop();
  });

  it("falls on the embedded programs when DATABASE_URL is empty", async () => {
    const database = await resolveDatabase(
      { DATABASE_URL: "" },
      { dataDir: join(folder.path, "local"), fsync: false },
    );

    assert.equal(database.source, "local");
    assert.match(database.version ?? "", /^18\./);
    await database.stop();
  });

  it("passes over programs that do not run or are too old", async () => {
    const path = await Promise.all([
      fakePrograms(folder.path, "broken", "exit 1"),
      fakePrograms(folder.path, "old", "echo 'postgres (PostgreSQL) 14.9'"),
      fakePrograms(folder.path, "good", "echo 'postgres (PostgreSQL) 16.3'"),
    ]);

    const found = await findBinaries("system", { env: { PATH: path.join(":") } });

    assert.deepEqual(found, { origin: "system", binDir: path[2], version: "16.3", major: 16 });
  });

  it("says what to do when there are no programs", async () => {
    await assert.rejects(findBinaries(join(folder.path, "nowhere")), {
      code: "LOCAL_POSTGRES_NOT_FOUND",
      hint: /DATABASE_URL/,
    });
  });

  it("does not let another major version touch the data", async () => {
    const only18 = await fakePrograms(folder.path, "only18", "echo 'postgres (PostgreSQL) 18.1'");

    await assert.rejects(findBinaries(only18, { major: 17 }), {
      code: "LOCAL_POSTGRES_VERSION_MISMATCH",
      message: /written by Postgres 17, but only 18\.1/,
    });
  });
});

async function fakePrograms(parent: string, name: string, postgres: string): Promise<string> {
  const binDir = join(parent, name);
  await mkdir(binDir);
  for (const file of ["postgres", "initdb", "pg_ctl"]) {
    await writeFile(join(binDir, file), `#!/bin/sh\n${postgres}\n`);
    await chmod(join(binDir, file), 0o755);
  }
  return binDir;
}

/** `millrace init --supabase`, in folders of a project that `supabase init` would have made. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { withFunctionSections } from "../../src/cli/init/config-toml.ts";
import { packageVersion } from "../../src/cli/package-version.ts";
import { readMigrations } from "../../src/db/migrate.ts";
import { type CliRun, cli } from "./run.ts";

const CONFIG = 'project_id = "demo"\n\n[edge_runtime]\npolicy = "per_worker"\n';
const WORKER = "supabase/functions/queue-worker";
const ENV = { DATABASE_URL: undefined };

interface Answer {
  readonly dry_run: boolean;
  readonly files: readonly { readonly path: string; readonly state: string }[];
  readonly verifying_jwt: readonly string[];
  readonly next: readonly { readonly commands: readonly string[] }[];
}

let project: string;
beforeEach(async () => {
  project = await mkdtemp(join(tmpdir(), `millrace-test-${process.pid}-`));
  await put("supabase/config.toml", CONFIG);
});
afterEach(() => rm(project, { recursive: true }));

const millrace = (...argv: string[]): Promise<CliRun> => cli(argv, { cwd: project, env: ENV });
const read = (path: string): Promise<string> => readFile(join(project, path), "utf8");

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(project, path)), { recursive: true });
  await writeFile(join(project, path), text);
}

async function snapshot(): Promise<Record<string, string>> {
  const entries = await readdir(project, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(project.length + 1))
    .sort();
  return Object.fromEntries(await Promise.all(paths.map(async (path) => [path, await read(path)])));
}

/** The same as short texts: a difference between whole files would fill the terminal. */
async function digests(): Promise<Record<string, string>> {
  const digest = (text: string): string => createHash("sha256").update(text).digest("hex");
  return Object.fromEntries(
    Object.entries(await snapshot()).map(([path, text]) => [path, digest(text)]),
  );
}

const states = ({ files }: Answer): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const { state } of files) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
};

describe("millrace init --supabase", () => {
  it("writes migrations, function and configuration, and tells what comes next", async () => {
    const run = await millrace("init", "--supabase");

    assert.equal(run.code, 0, run.err);
    const migrations = await readMigrations();
    const files = await snapshot();
    assert.deepEqual(
      Object.keys(files),
      [
        "supabase/config.toml",
        `${WORKER}/deno.json`,
        `${WORKER}/index.ts`,
        ...migrations.map(({ version, name }) => `supabase/migrations/${version}_${name}.sql`),
      ].sort(),
    );
    for (const { version, name, text } of migrations) {
      assert.ok(files[`supabase/migrations/${version}_${name}.sql`] === text, name);
    }
    assert.match(
      files["supabase/config.toml"] ?? "",
      /^project_id[\s\S]*"per_worker"\n\n\[functions\.queue-worker\]\n#.*\nverify_jwt = false\n$/,
    );
    const version = packageVersion().replaceAll(".", "\\.");
    assert.match(files[`${WORKER}/deno.json`] ?? "", new RegExp(`"npm:millrace@${version}/edge"`));
    assert.match(run.out, new RegExp(`migrations: ${migrations.length} files created`));
    assert.match(run.out, /supabase db push[\s\S]*secrets set QUEUE_WORKER_TOKEN/);
    assert.match(run.out, /functions deploy queue-worker --no-verify-jwt\n/);
    assert.match(run.out, /vault\.create_secret\([\s\S]*queue\.install_cron\(\)/);
  });

  it("changes nothing the second time", async () => {
    await millrace("init", "--supabase", "--functions");
    const before = await digests();

    const again = await millrace("init", "--supabase", "--functions");

    assert.equal(again.code, 0);
    assert.deepEqual(await digests(), before);
    assert.match(again.out, /files there already/);
    assert.doesNotMatch(again.out, /created|appended/);
  });

  it("leaves a changed file, says so, writes the others, and replaces it only when told to", async () => {
    await put(`${WORKER}/index.ts`, "// mine\n");

    const run = await millrace("init", "--supabase");

    assert.equal(run.code, 1);
    assert.match(run.out, /✗ supabase\/functions\/queue-worker\/index\.ts differs.*--force/);
    assert.equal(await read(`${WORKER}/index.ts`), "// mine\n");
    assert.match(await read(`${WORKER}/deno.json`), /npm:millrace/);

    const forced = await millrace("init", "--supabase", "--force", "--json");

    assert.equal(forced.code, 0);
    const { unchanged, ...rest } = states(forced.json<Answer>());
    assert.deepEqual(rest, { replaced: 1 });
    assert.ok((unchanged ?? 0) > 30);
    assert.match(await read(`${WORKER}/index.ts`), /createQueueWorker/);
  });

  it("takes a file with other line ends for the same", async () => {
    await millrace("init", "--supabase");
    const path = `${WORKER}/index.ts`;
    await put(path, (await read(path)).replaceAll("\n", "\r\n"));

    assert.equal((await millrace("init", "--supabase")).code, 0);
  });

  it("with --dry-run tells the same and writes nothing", async () => {
    const before = await digests();

    const text = await millrace("init", "--supabase", "--dry-run");
    const json = (await millrace("init", "--supabase", "--dry-run", "--json")).json<Answer>();

    assert.deepEqual(await digests(), before);
    assert.match(text.out, /files would be created[\s\S]*queue-worker\] would be appended/);
    const written = (await millrace("init", "--supabase", "--json")).json<Answer>();
    assert.deepEqual({ ...json, dry_run: false }, written);
    assert.deepEqual([json.dry_run, states(json)["appended"]], [true, 1]);
  });

  it("with --functions brings those that jobs are routed to, of a folder that is named", async () => {
    const json = (
      await cli(["init", "--supabase", project, "--functions", "--json"], { env: ENV })
    ).json<Answer>();

    const files = await snapshot();
    const names = ["daily-digest", "ingest-slack", "prioritize-activities", "process-embeddings"];
    for (const name of names) {
      assert.match(files[`supabase/functions/${name}/index.ts`] ?? "", /entryOf/);
      assert.match(
        files[`supabase/functions/${name}/deno.json`] ?? "",
        /millrace@[^"]+\/functions"/,
      );
      assert.ok(files["supabase/config.toml"]?.includes(`[functions.${name}]`));
      assert.ok(json.next.some(({ commands }) => commands.join().includes(name)));
    }
    assert.ok(files["supabase/functions/_shared/entry.ts"]);
    assert.ok(!Object.keys(files).some((path) => path.endsWith(".test.ts")));
    assert.ok(!files["supabase/config.toml"]?.includes("_shared"));
    for (const [path, text] of Object.entries(files)) {
      assert.doesNotMatch(text, /"\.\.\/\.\.\/\.\.\//, `${path} reaches out of the project`);
    }
  });

  it("a function that has settings keeps them; one that would verify JWTs is told", async () => {
    const toml = `${CONFIG}\n[functions.queue-worker]\nverify_jwt = true\n`;
    await put("supabase/config.toml", toml);

    const run = await millrace("init", "--supabase");

    assert.equal(run.code, 1);
    assert.match(run.out, /✗ supabase\/config\.toml: verify_jwt = false is missing/);
    assert.equal(await read("supabase/config.toml"), toml);
  });

  it("without a project, or without a word for what, it writes nothing", async () => {
    await rm(join(project, "supabase"), { recursive: true });

    const nowhere = await millrace("init", "--supabase", "--json");
    const whatFor = await millrace("init");

    assert.deepEqual([nowhere.code, whatFor.code], [1, 2]);
    const { error } = JSON.parse(nowhere.err) as { error: { code: string; fix: string } };
    assert.equal(error.code, "NO_SUPABASE_PROJECT");
    assert.match(error.fix, /npx supabase init/);
    assert.match(whatFor.err, /millrace init --supabase/);
    assert.deepEqual(await readdir(project), []);
  });

  it("tells which file can't be written", async () => {
    await put("supabase/migrations", "a file where a folder belongs\n");

    const run = await millrace("init", "--supabase", "--json");

    assert.equal(run.code, 1);
    assert.match(run.err, /"CANNOT_WRITE".*supabase\/migrations/);
  });
});

describe("sections of functions in config.toml", () => {
  const verdict = (toml: string): string => {
    const { added, verifying } = withFunctionSections(toml, ["queue-worker"]);
    return added.length > 0 ? "added" : verifying.length > 0 ? "verifying" : "there";
  };

  it("are found however they are written", () => {
    assert.equal(verdict("[functions.queue-worker]\nverify_jwt = false # why\n"), "there");
    assert.equal(verdict('[ functions . "queue-worker" ]\r\nverify_jwt=false\r\n'), "there");
    assert.equal(verdict("[functions]\nqueue-worker.verify_jwt = false\n"), "there");
    assert.equal(verdict("[functions]\nqueue-worker = { verify_jwt = false }\n"), "there");
    assert.equal(verdict("functions.queue-worker.verify_jwt = false\n"), "there");
    assert.equal(verdict("[functions.queue-worker]\nenabled = true\n"), "verifying");
    assert.equal(
      verdict("[functions.queue-worker]\n[functions.b]\nverify_jwt = false"),
      "verifying",
    );
    assert.equal(verdict("[functions.queue-worker]\n# verify_jwt = false\n"), "verifying");
  });

  it("are missing where only others have any, or a comment", () => {
    assert.equal(verdict(""), "added");
    assert.equal(verdict("[functions.queue-worker-2]\nverify_jwt = false\n"), "added");
    assert.equal(verdict("# [functions.queue-worker]\n# verify_jwt = false\n"), "added");
    assert.equal(verdict("[edge_runtime]\nqueue-worker = 1\n"), "added");
  });

  it("are appended with the file's own line ends, and on a line of their own", () => {
    const { text } = withFunctionSections("[a]\r\nb = 1", ["queue-worker"]);

    assert.match(
      text,
      /^\[a\]\r\nb = 1\r\n\r\n\[functions\.queue-worker\]\r\n.*\r\nverify_jwt = false\r\n$/,
    );
  });
});

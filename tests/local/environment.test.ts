import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { readEdgeEnvironment } from "../../src/http/environment.ts";
import { findDeno } from "../../src/local/deno.ts";
import { type FunctionEnvironment, functionEnvironment } from "../../src/local/environment.ts";
import { localKeys } from "../../src/local/keys.ts";
import { makeProject, type Project, serve } from "./project.ts";

async function withProject(
  files: Readonly<Record<string, string>>,
  work: (project: Project) => Promise<void>,
): Promise<void> {
  const project = await makeProject(files);
  try {
    await work(project);
  } finally {
    await project.remove();
  }
}

describe("keys of local functions", () => {
  it("are random, stay the same, and are readable by their owner only", async () => {
    await withProject({}, async ({ dir }) => {
      const state = join(dir, ".millrace");
      const keys = await localKeys(state);

      assert.deepEqual(await localKeys(state), keys);
      assert.notEqual((await localKeys(join(dir, "other"))).workerToken, keys.workerToken);
      assert.equal((await stat(join(state, "functions.json"))).mode & 0o777, 0o600);
      assert.equal(await readFile(join(state, ".gitignore"), "utf8"), "*\n");
      assert.match(keys.publishableKey, /^sb_publishable_[\w-]{32}$/);
      assert.match(keys.secretKey, /^sb_secret_[\w-]{32}$/);
      assert.equal(
        Buffer.from(keys.signingSecret.replace("whsec_", ""), "base64").length,
        32,
        "as Standard Webhooks wants it",
      );
    });
  });

  it("the legacy ones are JWTs of their roles, signed", async () => {
    await withProject({}, async ({ dir }) => {
      const { anonKey, serviceRoleKey, jwtSecret } = await localKeys(dir);

      for (const [key, role] of [
        [anonKey, "anon"],
        [serviceRoleKey, "service_role"],
      ] as const) {
        const [head = "", claims = "", signature] = key.split(".");
        assert.equal(JSON.parse(Buffer.from(claims, "base64url").toString()).role, role);
        const expected = createHmac("sha256", jwtSecret).update(`${head}.${claims}`);
        assert.equal(signature, expected.digest("base64url"));
      }
    });
  });

  it("a damaged file is refused, not overwritten", async () => {
    await withProject({}, async ({ dir }) => {
      await writeFile(join(dir, "functions.json"), '{"secretKey":"mine"}');

      await assert.rejects(localKeys(dir), { code: "LOCAL_KEYS_UNUSABLE" });

      assert.equal(await readFile(join(dir, "functions.json"), "utf8"), '{"secretKey":"mine"}');
    });
  });
});

describe("environment of local functions", () => {
  const read = async (project: Project): Promise<FunctionEnvironment> =>
    functionEnvironment({
      functionsDir: join(project.dir, "supabase/functions"),
      functionDir: join(project.dir, "supabase/functions/mine"),
      url: "http://127.0.0.1:1",
      databaseUrl: "postgres://db",
      keys: await localKeys(join(project.dir, ".millrace")),
      env: { PATH: "/bin", HOME: "/home/ada", AWS_SECRET: "not theirs", DENO_DIR: undefined },
    });

  it("tells the worker that it lives as long as may be", async () => {
    await withProject({}, async (project) => {
      const { variables } = await read(project);

      const { options } = readEdgeEnvironment((name) => variables[name]);

      assert.equal(options.lifeMs, 86_400_000);
    });
  });

  it("is what Supabase sets, and of the machine's what Deno needs", async () => {
    await withProject({}, async (project) => {
      const keys = await localKeys(join(project.dir, ".millrace"));

      const { variables, refused } = await read(project);

      assert.deepEqual(refused, []);
      assert.deepEqual(variables, {
        PATH: "/bin",
        HOME: "/home/ada",
        DENO_NO_UPDATE_CHECK: "1",
        DENO_NO_PROMPT: "1",
        DENO_NO_PACKAGE_JSON: "1",
        NO_COLOR: "1",
        QUEUE_LIFE_SECONDS: "86400",
        SUPABASE_URL: "http://127.0.0.1:1",
        SUPABASE_DB_URL: "postgres://db",
        SUPABASE_ANON_KEY: keys.anonKey,
        SUPABASE_SERVICE_ROLE_KEY: keys.serviceRoleKey,
        SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishableKey }),
        SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secretKey }),
        QUEUE_WORKER_TOKEN: keys.workerToken,
        QUEUE_SIGNING_SECRETS: keys.signingSecret,
        QUEUE_CALLBACK_SECRET: keys.callbackSecret,
      });
    });
  });

  it("the function's own .env goes before that of all, and neither before what Supabase sets", async () => {
    const files = {
      ".env": "A=all\nB=all\nSUPABASE_URL=https://elsewhere.example\n",
      "mine/.env": 'B="mine"\nQUEUE_WORKER_TOKEN=own\n',
      "other/.env": "A=other\n",
    };
    await withProject(files, async (project) => {
      const { variables, refused } = await read(project);

      assert.deepEqual([variables["A"], variables["B"]], ["all", "mine"]);
      assert.equal(variables["QUEUE_WORKER_TOKEN"], "own");
      assert.equal(variables["SUPABASE_URL"], "http://127.0.0.1:1");
      assert.deepEqual(refused, ["SUPABASE_URL"]);
    });
  });

  it("arrives in the function, and nothing else does", async () => {
    const files = {
      "env/index.ts": "export default { fetch: () => Response.json(Deno.env.toObject()) };\n",
      "env/.env": "OWN=yes\n",
    };
    await withProject(files, async (project) => {
      const served = await serve(project, { env: { ...process.env, STRAY: "no" } });
      try {
        const seen = await (await fetch(`${served.functionsUrl}/env`)).json();

        assert.equal(seen.OWN, "yes");
        assert.equal(seen.SUPABASE_URL, served.url);
        assert.equal(seen.STRAY, undefined);
      } finally {
        await served.stop();
      }
    });
  });
});

describe("Deno on this machine", () => {
  it("is found in node_modules, else on PATH; without any the error says how to get it", async () => {
    await withProject({ "/bin/readme": "" }, async ({ dir, remove }) => {
      await remove("/node_modules");
      const known = await findDeno({ projectDir: dir, env: {} });
      assert.match(known.version, /^2\./);

      const nowhere = { projectDir: dir, beside: pathToFileURL(join(dir, "x.ts")).href };
      const found = await findDeno({ ...nowhere, env: { PATH: join(known.path, "..") } });
      assert.deepEqual(found, known);
      await assert.rejects(findDeno({ ...nowhere, env: { PATH: dir } }), {
        code: "DENO_NOT_FOUND",
        hint: "Run: npm install --save-dev deno",
      });
    });
  });
});

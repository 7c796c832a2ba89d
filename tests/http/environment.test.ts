import assert from "node:assert/strict";
import { test } from "node:test";
import { readEdgeEnvironment } from "../../src/http/environment.ts";

const SUPABASE = {
  SUPABASE_URL: "https://ref.supabase.co/",
  SUPABASE_DB_URL: "postgres://postgres@db.ref.supabase.co:5432/postgres",
  SUPABASE_SERVICE_ROLE_KEY: "eyJ.service.role",
  SUPABASE_SECRET_KEYS: '{"default":"sb_secret_a","jobs":"sb_secret_b"}',
};

function read(variables: Readonly<Record<string, string>>) {
  return readEdgeEnvironment((name) => variables[name]);
}

test("what Supabase sets is enough", () => {
  const { databaseUrl, options } = read({ ...SUPABASE, SB_EXECUTION_ID: "one" });

  assert.equal(databaseUrl, SUPABASE.SUPABASE_DB_URL);
  assert.deepEqual(options.keys, {
    serviceTokens: ["eyJ.service.role"],
    secretKeys: ["sb_secret_a", "sb_secret_b"],
    doorbellTokens: [],
  });
  assert.equal(options.functionsUrl, "https://ref.supabase.co/functions/v1");
  assert.deepEqual(options.functionHeaders, {
    authorization: "Bearer eyJ.service.role",
    apikey: "sb_secret_a",
  });
  assert.deepEqual(options.callback, {
    url: "https://ref.supabase.co/functions/v1/queue-worker?action=report",
    secrets: ["eyJ.service.role", "sb_secret_a", "sb_secret_b"],
  });
  assert.equal(options.name, "one");
  assert.equal(options.lifeMs, undefined);
});

test("what is set for the queue goes before it, and two values may be valid at a time", () => {
  const { databaseUrl, options } = read({
    ...SUPABASE,
    QUEUE_DB_URL: "postgres://pooler:6543/postgres",
    QUEUE_WORKER_TOKEN: "new, old",
    QUEUE_CALLBACK_SECRET: "own",
    QUEUE_SIGNING_SECRETS: "whsec_a,whsec_b",
    QUEUE_LIFE_SECONDS: "400",
  });

  assert.equal(databaseUrl, "postgres://pooler:6543/postgres");
  assert.deepEqual(options.keys.doorbellTokens, ["new", "old"]);
  assert.deepEqual(options.callback?.secrets, ["own"]);
  assert.deepEqual(options.signingSecrets, ["whsec_a", "whsec_b"]);
  assert.equal(options.lifeMs, 400_000);
});

test("a secret key in the place of the JWT is one: it is no Bearer token", () => {
  const { options } = read({ ...SUPABASE, SUPABASE_SERVICE_ROLE_KEY: "sb_secret_c" });

  assert.ok(options.keys.secretKeys.includes("sb_secret_c"));
  assert.deepEqual(options.functionHeaders, { apikey: "sb_secret_a" });
});

test("what is missing or makes no sense is said, and not its value", () => {
  assert.throws(() => read({}), { code: "INVALID_OPTION", message: /SUPABASE_DB_URL/ });
  for (const [name, value] of [
    ["QUEUE_LIFE_SECONDS", "soon"],
    ["QUEUE_LIFE_SECONDS", "0"],
    ["SUPABASE_SECRET_KEYS", "sb_secret_bare"],
    ["SUPABASE_SECRET_KEYS", '["sb_secret_list"]'],
  ] as const) {
    assert.throws(() => read({ ...SUPABASE, [name]: value }), {
      code: "INVALID_ENVIRONMENT",
      message: `${name} cannot be read`,
    });
  }
});

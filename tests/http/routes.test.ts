import assert from "node:assert/strict";
import { test } from "node:test";
import { NoRouteError, type Routes, SHIPPED_ROUTES, targetOf } from "../../src/http/routes.ts";

const DEFAULTS = {
  functionsUrl: "https://ref.supabase.test/functions/v1/",
  functionHeaders: { authorization: "Bearer key" },
  reportMs: 900_000,
  timeoutMs: 60_000,
  signingSecrets: [],
};

function urlOf(
  type: string,
  routes: Routes = SHIPPED_ROUTES,
  tenantId: string | null = null,
): string {
  return targetOf({ type, tenantId }, routes, DEFAULTS).url;
}

for (const [type, functionName] of [
  ["ingest_microsoft", "ingest-microsoft"],
  ["ingest_slack", "ingest-slack"],
  ["process_embeddings", "process-embeddings"],
  ["generate_digest", "daily-digest"],
  ["prioritize_activities", "prioritize-activities"],
  ["render_audio_preview", "render-audio-preview"],
  ["email", "email"],
]) {
  test(`${type} goes to ${functionName}`, () => {
    assert.equal(urlOf(type ?? ""), `https://ref.supabase.test/functions/v1/${functionName}`);
  });
}

test("a route says where, how and for how long; credentials of the project stay with the project", () => {
  const routes: Routes = {
    charge: [
      { url: "https://pay.test/hook?x=1", headers: { "x-key": "1" }, timeoutMs: 5, method: "PUT" },
    ],
    mail: [{ functionName: "send-mail", headers: { "x-key": "2" } }],
  };

  assert.deepEqual(targetOf({ type: "charge", tenantId: null }, routes, DEFAULTS), {
    functionName: "pay.test",
    url: "https://pay.test/hook?x=1",
    method: "PUT",
    headers: { "x-key": "1" },
    timeoutMs: 5,
    reportMs: 900_000,
    batchSize: 1,
    signingSecrets: [],
  });
  assert.deepEqual(targetOf({ type: "mail", tenantId: null }, routes, DEFAULTS).headers, {
    authorization: "Bearer key",
    "x-key": "2",
  });
});

test("the first route that serves the tenant is taken; without one the job goes nowhere", () => {
  const routes: Routes = {
    sync: [{ functionName: "sync-acme", tenants: ["acme"] }, { functionName: "sync-all" }],
    only: [{ functionName: "only-acme", tenants: ["acme"] }],
  };

  assert.match(urlOf("sync", routes, "acme"), /sync-acme$/);
  assert.match(urlOf("sync", routes, "other"), /sync-all$/);
  assert.match(urlOf("only", routes, "acme"), /only-acme$/);
  assert.throws(() => urlOf("only", routes, "other"), NoRouteError);
  assert.throws(() => urlOf("only", routes), NoRouteError);
});

test("a type leads to no other path, and not to what every object has", () => {
  for (const type of ["../admin", "a/b", "a?b", "a.b", "-a", "", "ä"]) {
    assert.throws(() => urlOf(type), NoRouteError, type);
  }
  assert.match(urlOf("constructor"), /\/constructor$/);
});

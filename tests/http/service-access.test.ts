import assert from "node:assert/strict";
import { test } from "node:test";
import { callerOf, type ServiceKeys, unauthorized } from "../../src/http/service-access.ts";

const keys: ServiceKeys = {
  serviceTokens: ["old.service.jwt", "new.service.jwt"],
  secretKeys: ["sb_secret_default", "sb_secret_named"],
  doorbellTokens: ["bell-1", "bell-2"],
};

function ask(headers: Record<string, string>): Promise<string | undefined> {
  return callerOf(new Request("https://project.test/queue-worker", { headers }), keys);
}

for (const [what, headers, expected] of [
  ["the service role key as Bearer", { authorization: "Bearer old.service.jwt" }, "service"],
  ["its successor", { authorization: "bearer new.service.jwt" }, "service"],
  [
    "the service role key in both places, as supabase-js sends it",
    { authorization: "Bearer old.service.jwt", apikey: "old.service.jwt" },
    "service",
  ],
  ["a secret key in apikey", { apikey: "sb_secret_default" }, "service"],
  ["a named secret key", { apikey: "sb_secret_named" }, "service"],
  [
    "a secret key in both places",
    { authorization: "Bearer sb_secret_named", apikey: "sb_secret_named" },
    "service",
  ],
  ["the doorbell's token", { authorization: "Bearer bell-2" }, "doorbell"],
  ["nothing", {}, undefined],
  ["an empty Bearer", { authorization: "Bearer " }, undefined],
  ["another scheme", { authorization: "Basic old.service.jwt" }, undefined],
  ["a secret key as Bearer alone", { authorization: "Bearer sb_secret_default" }, undefined],
  ["the doorbell's token in apikey", { apikey: "bell-1" }, undefined],
  ["the service role key in apikey alone", { apikey: "old.service.jwt" }, undefined],
  [
    "a right Bearer beside a wrong apikey",
    { authorization: "Bearer old.service.jwt", apikey: "sb_publishable_x" },
    undefined,
  ],
  [
    "a right apikey beside a wrong Bearer",
    { authorization: "Bearer nobody", apikey: "sb_secret_default" },
    undefined,
  ],
  ["a longer token with the right beginning", { authorization: "Bearer bell-11" }, undefined],
] as const) {
  test(`${what}: ${expected ?? "refused"}`, async () => {
    assert.equal(await ask(headers), expected);
  });
}

test("keys that are not set fit nothing", async () => {
  const none: ServiceKeys = { serviceTokens: [""], secretKeys: [""], doorbellTokens: [] };
  const request = new Request("https://project.test/", { headers: { apikey: "" } });
  assert.equal(await callerOf(request, none), undefined);
});

test("the refusal is problem+json, and names no key", async () => {
  const answer = unauthorized();

  assert.equal(answer.status, 401);
  assert.equal(answer.headers.get("content-type"), "application/problem+json");
  assert.equal(answer.headers.get("www-authenticate"), "Bearer");
  const body = (await answer.json()) as { code: string };
  assert.equal(body.code, "UNAUTHORIZED");
});

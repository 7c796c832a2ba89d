import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackToken, readCallbackToken } from "../../src/http/callback-token.ts";

const CLAIM = { jobId: "42", leaseId: "7" };

test("a token names its attempt to whoever has the secret, the new one or the old", async () => {
  const token = await callbackToken(CLAIM, "old");

  assert.deepEqual(await readCallbackToken(token, ["new", "old"]), CLAIM);
  assert.match(token, /^42\.7\.[\w-]{43}$/);
});

test("a token of another secret, job or lease, or no token at all, names nothing", async () => {
  const token = await callbackToken(CLAIM, "secret");
  const [, , mac] = token.split(".");

  for (const wrong of [`43.7.${mac}`, `42.8.${mac}`, `42.7.${"A".repeat(43)}`, "42.7.", "", mac]) {
    assert.equal(await readCallbackToken(String(wrong), ["secret"]), undefined, wrong);
  }
  assert.equal(await readCallbackToken(token, ["other"]), undefined);
  assert.equal(await readCallbackToken(token, []), undefined);
});

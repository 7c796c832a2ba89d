import assert from "node:assert/strict";
import { test } from "node:test";
import {
  InvalidSigningSecretError,
  isSignedWebhook,
  signWebhook,
} from "../../src/http/webhook-signature.ts";

const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER = `whsec_${btoa("another secret of 32 characters!")}`;
const SENT_AT = new Date(1_614_265_330_000);
const MESSAGE = {
  id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
  body: '{"test": 2432232314}',
  sentAt: SENT_AT,
};

test("signs as the example of the specification does", async () => {
  const headers = await signWebhook(MESSAGE, [SECRET]);

  assert.deepEqual(headers, {
    "webhook-id": MESSAGE.id,
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  });
});

test("while a secret is changed, receivers of the old and of the new one can check", async () => {
  const headers = new Headers({ ...(await signWebhook(MESSAGE, [SECRET, OTHER])) });
  const check = (secrets: string[]): Promise<boolean> =>
    isSignedWebhook(headers, MESSAGE.body, secrets, SENT_AT.getTime());

  assert.deepEqual(await Promise.all([check([SECRET]), check([OTHER]), check([OTHER, SECRET])]), [
    true,
    true,
    true,
  ]);
});

test("refuses another body, id, time or secret, and messages that are old or from the future", async () => {
  const signed = await signWebhook(MESSAGE, [SECRET]);
  const check = (
    change: Partial<Record<keyof typeof signed, string>>,
    { body = MESSAGE.body, secret = SECRET, now = SENT_AT.getTime() } = {},
  ): Promise<boolean> =>
    isSignedWebhook(new Headers({ ...signed, ...change }), body, [secret], now);

  assert.equal(await check({}), true);
  assert.equal(await check({}, { body: `${MESSAGE.body} ` }), false);
  assert.equal(await check({ "webhook-id": "msg_other" }), false);
  assert.equal(await check({ "webhook-timestamp": "1614265331" }), false);
  assert.equal(await check({ "webhook-timestamp": "soon" }), false);
  assert.equal(await check({ "webhook-signature": "v1,AAAA" }), false);
  assert.equal(await check({}, { secret: OTHER }), false);
  assert.equal(await check({}, { now: SENT_AT.getTime() + 301_000 }), false);
  assert.equal(await check({}, { now: SENT_AT.getTime() - 301_000 }), false);
});

test("says what a secret must look like", async () => {
  for (const secret of ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_?", "whsec_c2hvcnQ="]) {
    await assert.rejects(signWebhook(MESSAGE, [secret]), InvalidSigningSecretError);
  }
});

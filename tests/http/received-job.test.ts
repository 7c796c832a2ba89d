import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { type ReceiveOptions, receiveJob } from "../../src/http/received-job.ts";
import { RequestRefused } from "../../src/http/request-refused.ts";
import { senderAccessOf } from "../../src/http/sender-access.ts";
import { InvalidSigningSecretError, signWebhook } from "../../src/http/webhook-signature.ts";

const NOW = Date.parse("2026-11-22T10:00:00Z");
const SECRET = `whsec_${btoa("a secret of thirty-two characters")}`;
const OTHER = `whsec_${btoa("another secret of 32 characters!")}`;
const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const KEYED: ReceiveOptions = {
  access: { keys: { serviceTokens: ["jwt"], secretKeys: ["sb_1"] } },
};
const SIGNED: ReceiveOptions = {
  access: { ...KEYED.access, signingSecrets: [SECRET] },
  epochMs: () => NOW,
};
const JOB = {
  id: "42",
  type: "ingest_slack",
  attempt: 2,
  max_attempts: 4,
  tenant_id: "acme",
  payload: { channel: "C1" },
  callback: { url: "https://ref.test/functions/v1/queue-worker?action=report", token: "t0ken" },
};

function request(
  body: unknown,
  headers: Record<string, string> = { authorization: "Bearer jwt" },
  method = "POST",
): Request {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return new Request("https://ref.test/f", {
    method,
    headers,
    ...(method !== "GET" && { body: text }),
  });
}

async function signed(
  { secret = SECRET, sentAt = NOW, body = JSON.stringify(JOB) } = {},
  more: Record<string, string> = {},
): Promise<Request> {
  const message = { id: "job_42_2", body, sentAt: new Date(sentAt) };
  return request(body, { ...(await signWebhook(message, [secret])), ...more });
}

async function refusal(reading: Promise<unknown>): Promise<RequestRefused> {
  const error = await reading.then(
    () => assert.fail("it was accepted"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof RequestRefused, String(error));
  return error;
}

test("reads the job with what its function needs to do it once", async () => {
  const headers = {
    authorization: "Bearer jwt",
    "idempotency-key": "job_42",
    traceparent: TRACE,
  };

  const job = await receiveJob(request(JOB, headers), KEYED);

  assert.deepEqual(job, {
    id: "42",
    type: "ingest_slack",
    attempt: 2,
    maxAttempts: 4,
    tenantId: "acme",
    payload: { channel: "C1" },
    idempotencyKey: "job_42",
    traceparent: TRACE,
    callback: JOB.callback,
  });
});

test("what may be left out has a meaning", async () => {
  const { callback, tenant_id, payload, ...bare } = JOB;

  const job = await receiveJob(request(bare), KEYED);

  assert.deepEqual(
    [job.tenantId, job.payload, job.callback, job.traceparent, job.idempotencyKey],
    [null, null, null, null, "job_42"],
  );
});

test("a secret key in apikey will do as well", async () => {
  const job = await receiveJob(request(JOB, { apikey: "sb_1" }), KEYED);

  assert.equal(job.id, "42");
});

test("without secrets and keys nobody may send", async () => {
  for (const headers of [{}, { authorization: "Bearer " }, { apikey: "" }]) {
    const error = await refusal(receiveJob(request(JOB, headers), { access: {} }));
    assert.deepEqual([error.problem.status, error.problem.code], [401, "UNAUTHORIZED"]);
  }
});

test("the payload is what the schema makes of it; a wrong one is refused with its place", async () => {
  const schema = z.object({ items: z.array(z.object({ email: z.email() })).default([]) });
  const options: ReceiveOptions<z.infer<typeof schema>> = { ...KEYED, schema };

  const job = await receiveJob(request({ ...JOB, payload: {} }), options);
  assert.deepEqual(job.payload.items, []);

  const payload = { items: [{ email: "a@b.test" }, { email: "no" }] };
  const { problem } = await refusal(receiveJob(request({ ...JOB, payload }), options));
  assert.deepEqual([problem.status, problem.code], [422, "INVALID_PAYLOAD"]);
  assert.match(problem.title, /^Payload is invalid at items\[1\]\.email: Invalid email/);
});

test("where secrets are set the signature counts, and no key stands in for it", async () => {
  assert.equal((await receiveJob(await signed(), SIGNED)).id, "42");
  const key = { authorization: "Bearer jwt" };

  for (const [what, call] of [
    ["a key alone", request(JOB, key)],
    ["another secret", await signed({ secret: OTHER }, key)],
    ["an old signature", await signed({ sentAt: NOW - 301_000 }, key)],
    ["another attempt's number", await signed({}, { "webhook-id": "job_42_1" })],
  ] as const) {
    const { problem } = await refusal(receiveJob(call, SIGNED));
    assert.deepEqual([problem.status, problem.code], [401, "SIGNATURE_INVALID"], what);
  }
});

test("a signature of another body is refused", async () => {
  const headers = Object.fromEntries((await signed()).headers);

  const { problem } = await refusal(receiveJob(request({ ...JOB, attempt: 3 }, headers), SIGNED));

  assert.equal(problem.code, "SIGNATURE_INVALID");
});

test("a signing secret that is none is our own mistake, and said to be", async () => {
  const options = { access: { signingSecrets: ["secret"] }, epochMs: () => NOW };

  await assert.rejects(receiveJob(await signed(), options), InvalidSigningSecretError);
});

for (const [what, call, expected] of [
  ["another method", request("", {}, "GET"), [405, "METHOD_NOT_ALLOWED"]],
  ["a wrong key", request(JOB, { authorization: "Bearer no" }), [401, "UNAUTHORIZED"]],
  ["a body without end", request(`"${"x".repeat(2 * 1024 * 1024)}"`), [413, "BODY_TOO_LARGE"]],
  ["a body that is no JSON", request("{"), [400, "INVALID_JOB"]],
  ["a body that is no object", request([JOB]), [400, "INVALID_JOB"]],
  ["an empty body", request(""), [400, "INVALID_JOB"]],
  ["an id that is a number", request({ ...JOB, id: 42 }), [400, "INVALID_JOB"]],
  ["an id that is a path", request({ ...JOB, id: "../42" }), [400, "INVALID_JOB"]],
  ["no type", request({ ...JOB, type: "" }), [400, "INVALID_JOB"]],
  ["an attempt of 0", request({ ...JOB, attempt: 0 }), [400, "INVALID_JOB"]],
  ["no most attempts", request({ ...JOB, max_attempts: undefined }), [400, "INVALID_JOB"]],
  ["a tenant that is no text", request({ ...JOB, tenant_id: 7 }), [400, "INVALID_JOB"]],
  ["a callback that is a text", request({ ...JOB, callback: "https://x" }), [400, "INVALID_JOB"]],
  [
    "a callback that is no address of the web",
    request({ ...JOB, callback: { url: "file:///etc/passwd", token: "t" } }),
    [400, "INVALID_JOB"],
  ],
  [
    "a callback whose token would be two headers",
    request({ ...JOB, callback: { url: "https://x.test", token: "t\r\nx: y" } }),
    [400, "INVALID_JOB"],
  ],
] as const) {
  test(`refuses ${what}`, async () => {
    const { problem } = await refusal(receiveJob(call, KEYED));
    assert.deepEqual([problem.status, problem.code], expected);
  });
}

test("keys are checked before the body is looked at", async () => {
  const { problem } = await refusal(receiveJob(request("{", {}), KEYED));

  assert.equal(problem.status, 401);
});

test("the environment of a function says who may send", () => {
  const set: Record<string, string> = {
    QUEUE_SIGNING_SECRETS: `${SECRET}, ${OTHER},`,
    SUPABASE_SERVICE_ROLE_KEY: "jwt",
    SUPABASE_SECRET_KEYS: '{"default": "sb_1", "worker": "sb_2"}',
    SUPABASE_SECRET_KEY: "sb_3",
  };

  assert.deepEqual(
    senderAccessOf((name) => set[name]),
    {
      signingSecrets: [SECRET, OTHER],
      keys: { serviceTokens: ["jwt"], secretKeys: ["sb_1", "sb_2", "sb_3"] },
    },
  );
  assert.deepEqual(
    senderAccessOf(() => undefined),
    {
      signingSecrets: [],
      keys: { serviceTokens: [], secretKeys: [] },
    },
  );
  for (const keys of ["sb_1", '["sb_1"]', "null"]) {
    const read = (name: string): string | undefined =>
      name === "SUPABASE_SECRET_KEYS" ? keys : undefined;
    assert.throws(() => senderAccessOf(read), { code: "INVALID_ENVIRONMENT" });
  }
});

/** The dispatcher against a real HTTP server that answers what it is told. */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { systemClock } from "../../src/core/clock.ts";
import { toJobError } from "../../src/core/job-error.ts";
import {
  type Delivery,
  type Dispatched,
  type DispatchTools,
  dispatch,
  type Target,
} from "../../src/http/dispatch.ts";
import { isSignedWebhook } from "../../src/http/webhook-signature.ts";
import { fakeClock } from "../core/fake-clock.ts";

const NOW = Date.parse("2026-11-22T10:00:00Z");
const SECRET = `whsec_${btoa("a secret of thirty-two characters")}`;
const DELIVERY: Delivery = {
  jobId: "42",
  type: "ingest_slack",
  attempt: 2,
  maxAttempts: 4,
  tenantId: "acme",
  payload: { channel: "general" },
  idempotencyKey: "job-42",
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
};

interface Heard {
  readonly method: string | undefined;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

let server: Server;
let heard: Heard[] = [];
let answer: (response: ServerResponse) => void = (response) => response.end();

before(async () => {
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => {
      body += part.toString();
    });
    request.on("end", () => {
      heard.push({ method: request.method, headers: request.headers, body });
      answer(response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function target(parts: Partial<Target> = {}): Target {
  const { port } = server.address() as AddressInfo;
  return {
    functionName: "ingest-slack",
    url: `http://127.0.0.1:${port}/functions/v1/ingest-slack`,
    method: "POST",
    headers: { authorization: "Bearer key" },
    reportMs: 900_000,
    batchSize: 1,
    timeoutMs: 30_000,
    signingSecrets: [SECRET],
    ...parts,
  };
}

const TOOLS: DispatchTools = {
  fetch: globalThis.fetch,
  clock: systemClock,
  epochMs: () => NOW,
  signal: new AbortController().signal,
};

/** Sends the job to a function that answers so. */
async function sent(
  status: number,
  body = "",
  headers: Record<string, string> = {},
): Promise<Dispatched> {
  heard = [];
  answer = (response) => response.writeHead(status, headers).end(body);
  return dispatch(DELIVERY, target(), TOOLS);
}

test("sends the job, signed, with what its function needs to do it once", async () => {
  const dispatched = await sent(200, '{"messages": 3}');

  assert.deepEqual(dispatched, { kind: "completed", status: 200, result: { messages: 3 } });
  const [call] = heard;
  assert.equal(call?.method, "POST");
  assert.deepEqual(JSON.parse(call?.body ?? ""), {
    id: "42",
    type: "ingest_slack",
    attempt: 2,
    max_attempts: 4,
    tenant_id: "acme",
    payload: { channel: "general" },
  });
  const headers = call?.headers ?? {};
  assert.deepEqual(
    [headers.authorization, headers["content-type"], headers["idempotency-key"]],
    ["Bearer key", "application/json", "job-42"],
  );
  assert.equal(headers["traceparent"], DELIVERY.traceparent);
  assert.equal(headers["webhook-id"], "job_42_2");
  const signed = new Headers(headers as Record<string, string>);
  assert.equal(await isSignedWebhook(signed, call?.body ?? "", [SECRET], NOW), true);
});

test("an empty answer is a result of null; 202 is no result yet", async () => {
  assert.deepEqual(await sent(204), { kind: "completed", status: 204, result: null });
  assert.deepEqual(await sent(202, "later"), { kind: "accepted", status: 202 });
});

for (const [what, status, body, code, message, retryable] of [
  [
    "without authorization",
    401,
    "no",
    "FUNCTION_UNAUTHORIZED",
    "Authorization failed. Check SUPABASE_SERVICE_ROLE_KEY configuration.",
    true,
  ],
  [
    "that is not deployed",
    404,
    "",
    "FUNCTION_NOT_FOUND",
    "Edge Function not found. Verify function deployment: ingest-slack",
    true,
  ],
  [
    "that failed and says why in JSON",
    500,
    '{"error": "quota exceeded"}',
    "FUNCTION_FAILED",
    "Function execution failed: quota exceeded. Check function logs.",
    true,
  ],
  [
    "that failed and says why deeper in JSON",
    502,
    '{"error": {"message": "bad gateway"}}',
    "FUNCTION_FAILED",
    "Function execution failed: bad gateway. Check function logs.",
    true,
  ],
  [
    "that failed without a word",
    500,
    "",
    "FUNCTION_FAILED",
    "Function execution failed: no message. Check function logs.",
    true,
  ],
  [
    "that refuses the payload",
    422,
    "channel is missing",
    "FUNCTION_REFUSED",
    "ingest-slack refused the job (422): channel is missing",
    false,
  ],
  [
    "that is forbidden",
    403,
    "",
    "FUNCTION_REFUSED",
    "ingest-slack refused the job (403): no message",
    false,
  ],
] as const) {
  test(`a function ${what} (${status}) gives an error that can be acted on`, async () => {
    const dispatched = await sent(status, body);

    assert.equal(dispatched.kind, "failed");
    if (dispatched.kind !== "failed") return;
    assert.deepEqual(
      [dispatched.error.code, dispatched.error.message, dispatched.error.status],
      [code, message, status],
    );
    assert.deepEqual([dispatched.retryable, dispatched.retryAfterMs], [retryable, undefined]);
  });
}

test("a busy function says when to come back, and only such a one", async () => {
  for (const status of [408, 425, 429, 503]) {
    const dispatched = await sent(status, "slow down", { "retry-after": "17" });
    assert.equal(dispatched.kind === "failed" && dispatched.retryAfterMs, 17_000, `${status}`);
    assert.equal(dispatched.kind === "failed" && dispatched.retryable, true);
  }
  const other = await sent(500, "broken", { "retry-after": "17" });
  assert.equal(other.kind === "failed" && other.retryAfterMs, undefined);
});

test("of a huge answer only the beginning is read and quoted", async () => {
  const dispatched = await sent(500, "x".repeat(4 * 1024 * 1024));

  assert.ok(dispatched.kind === "failed" && dispatched.error.message.length < 600);
});

test("a redirect is not followed: it would take the credentials along", async () => {
  const dispatched = await sent(302, "", { location: "http://127.0.0.1:9/" });

  assert.equal(dispatched.kind === "failed" && dispatched.error.code, "FUNCTION_UNREACHABLE");
  assert.equal(heard.length, 1);
});

test("a function that can't be reached is a network error with the reason", async () => {
  const { port } = server.address() as AddressInfo;
  const closed = createServer();
  await new Promise<void>((resolve) => closed.listen(0, "127.0.0.1", resolve));
  const { port: free } = closed.address() as AddressInfo;
  await new Promise((resolve) => closed.close(resolve));
  assert.notEqual(free, port);

  const nowhere = target({ url: `http://127.0.0.1:${free}/` });
  const dispatched = await dispatch(DELIVERY, nowhere, TOOLS);

  assert.equal(dispatched.kind, "failed");
  if (dispatched.kind !== "failed") return;
  assert.match(
    dispatched.error.message,
    /^Network error calling ingest-slack: .*ECONNREFUSED.*\. Check Supabase infrastructure status\.$/,
  );
  assert.deepEqual([dispatched.status, dispatched.retryable], [null, true]);
});

test("a timeout says how long it waited; an abort of the attempt is passed on", async () => {
  const clock = fakeClock();
  let reached: () => void = () => undefined;
  answer = () => reached();
  const isReached = (): Promise<void> =>
    new Promise((resolve) => {
      reached = resolve;
    });

  const asked = isReached();
  const waiting = dispatch(DELIVERY, target({ timeoutMs: 5_000 }), { ...TOOLS, clock });
  await asked;
  clock.advance(5_000);
  const dispatched = await waiting;
  assert.equal(
    dispatched.kind === "failed" && dispatched.error.message,
    "ingest-slack did not answer within 5000 ms",
  );

  const controller = new AbortController();
  const askedAgain = isReached();
  const aborted = dispatch(DELIVERY, target(), { ...TOOLS, clock, signal: controller.signal });
  await askedAgain;
  controller.abort(new Error("the worker stops"));
  await assert.rejects(aborted, /the worker stops/);
});

test("sends a header once, however it is written, and none in the place of its own", async () => {
  heard = [];
  answer = (response) => response.end("{}");
  const headers = { authorization: "Bearer key", Authorization: "Mine", "Content-Type": "text/x" };

  await dispatch(DELIVERY, target({ headers }), TOOLS);

  assert.equal(heard[0]?.headers.authorization, "Mine");
  assert.equal(heard[0]?.headers["content-type"], "application/json");
});

test("says which header can't be sent, and not its value; nor the address that was called", async () => {
  const secret = target({ headers: { "x-key": "sesame\nopen" } });
  const unknown = target({ url: "https://hook.test/?key=sesame", functionName: "hook.test" });
  const fetch = (): Promise<Response> =>
    Promise.reject(new TypeError(`error sending request for url (${unknown.url})`));

  for (const [answered, named] of [
    [await dispatch(DELIVERY, secret, TOOLS), /x-key/],
    [await dispatch(DELIVERY, unknown, { ...TOOLS, fetch }), /hook\.test/],
  ] as const) {
    assert.ok(answered.kind === "failed");
    assert.match(answered.error.message, named);
    assert.doesNotMatch(JSON.stringify(toJobError(answered.error)), /sesame/);
  }
});

test("looks for a message no deeper than a person would have put it", async () => {
  const nested = (depth: number): object =>
    depth === 0 ? { error: "deep" } : { error: nested(depth - 1) };

  const [near, far] = [
    await sent(500, JSON.stringify(nested(2))),
    await sent(500, JSON.stringify(nested(50))),
  ];

  assert.ok(near.kind === "failed" && far.kind === "failed");
  assert.equal(near.error.message, "Function execution failed: deep. Check function logs.");
  assert.match(far.error.message, /failed: \{"error":\{"error":/);
});

test("does not wait for the end of an answer that says: later", async () => {
  answer = (response) => response.writeHead(202).write("working ");

  const answered = await dispatch(DELIVERY, target({ timeoutMs: 2_000 }), TOOLS);

  assert.deepEqual(answered, { kind: "accepted", status: 202 });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestRefused } from "../../src/http/request-refused.ts";
import {
  MOST_BODY_BYTES,
  readWorkerRequest,
  type WorkerRequest,
} from "../../src/http/worker-request.ts";

const URL_OF_IT = "https://project.test/functions/v1/queue-worker";

function read(query: string, body?: unknown, method = "POST"): Promise<WorkerRequest> {
  const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
  return readWorkerRequest(
    new Request(`${URL_OF_IT}${query}`, { method, ...(text !== undefined && { body: text }) }),
  );
}

async function refusal(reading: Promise<unknown>): Promise<readonly [number, string]> {
  const error = await reading.then(
    () => assert.fail("it was accepted"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof RequestRefused);
  return [error.problem.status, error.problem.code];
}

test("without a word all jobs are processed, and the answer is waited for", async () => {
  assert.deepEqual(await read(""), { action: "process", isAsync: false });
  assert.deepEqual(await read("", "  "), { action: "process", isAsync: false });
});

test("says what to process in the query, in the body, or in both; the query wins", async () => {
  const all = { action: "process", type: "email", batch: 10, tenantId: "acme", maxJobs: 5 };

  assert.deepEqual(await read("?type=email&batch=10&tenantId=acme&maxJobs=5&async=true"), {
    ...all,
    isAsync: true,
  });
  assert.deepEqual(await read("", { ...all, async: false }), { ...all, isAsync: false });
  assert.deepEqual(await read("?type=audio", { type: "email", tenant_id: "acme", max_jobs: 5 }), {
    action: "process",
    type: "audio",
    tenantId: "acme",
    maxJobs: 5,
    isAsync: false,
  });
});

test("health and stats can be read with GET as well", async () => {
  assert.deepEqual(await read("?action=health", undefined, "GET"), { action: "health" });
  assert.deepEqual(await read("?action=stats", undefined, "GET"), { action: "stats" });
  assert.deepEqual(await read("", { action: "stats" }), { action: "stats" });
});

for (const [what, reading, expected] of [
  ["an unknown action", () => read("?action=explode"), [404, "UNKNOWN_ACTION"]],
  ["processing by GET", () => read("", undefined, "GET"), [405, "METHOD_NOT_ALLOWED"]],
  ["another method", () => read("", undefined, "DELETE"), [405, "METHOD_NOT_ALLOWED"]],
  ["a batch of none", () => read("?batch=0"), [400, "INVALID_REQUEST"]],
  ["a batch that is no number", () => read("?batch=ten"), [400, "INVALID_REQUEST"]],
  ["a batch beyond reason", () => read("", { batch: 1_001 }), [400, "INVALID_REQUEST"]],
  ["half a job", () => read("", { maxJobs: 1.5 }), [400, "INVALID_REQUEST"]],
  ["a type that is no text", () => read("", { type: 7 }), [400, "INVALID_REQUEST"]],
  ["a tenant without end", () => read("", { tenantId: "x".repeat(201) }), [400, "INVALID_REQUEST"]],
  ["a flag that is neither", () => read("?async=maybe"), [400, "INVALID_REQUEST"]],
  ["a misspelt field", () => read("?tpye=email"), [400, "INVALID_REQUEST"]],
  ["a name that every object has", () => read("?constructor=1"), [400, "INVALID_REQUEST"]],
  ["a body that is no JSON", () => read("", "{"), [400, "INVALID_REQUEST"]],
  ["a body that is no object", () => read("", [1]), [400, "INVALID_REQUEST"]],
  [
    "a body without end",
    () => read("", `{"type":"${"x".repeat(MOST_BODY_BYTES)}"}`),
    [413, "BODY_TOO_LARGE"],
  ],
] as const) {
  test(`refuses ${what}`, async () => {
    assert.deepEqual(await refusal(reading()), expected);
  });
}

/** A function on a real HTTP server, called as the queue calls it, with a real HTTP server in the queue's place. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { z } from "zod";
import { LeaseLostError } from "../../src/core/errors.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { Refused, RetryLater } from "../../src/http/job-failure.ts";
import {
  type JobFunctionOptions,
  type JobHandle,
  jobFunction,
} from "../../src/http/job-function.ts";
import { fakeClock } from "../core/fake-clock.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpServer, sendJson, startHttpServer } from "../support/http-server.ts";

const ACCESS = { keys: { serviceTokens: ["jwt"], secretKeys: [] } };
/** What the queue answers to a report of each kind. */
let statuses: Record<string, number> = {};
let queue: HttpServer;
const servers: Server[] = [];

before(async () => {
  queue = await startHttpServer(({ body }, response) => {
    const { report } = JSON.parse(body) as { report: string };
    sendJson(response, statuses[report] ?? 200, {});
  });
});
after(() => queue.close());
beforeEach(() => {
  queue.heard.length = 0;
  statuses = {};
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

interface Sent {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

/** Serves the function and sends it one job. */
async function send<Payload>(
  handle: JobHandle<Payload>,
  options: Partial<JobFunctionOptions<Payload>> = {},
  {
    callback = true,
    headers = {},
    payload = {} as unknown,
    key = "jwt",
    signal = null as AbortSignal | null,
  } = {},
): Promise<Sent> {
  const fetchIt = jobFunction({ access: ACCESS, logger: silentLogger, ...options }, handle);
  const server = createServer(async (incoming, outgoing) => {
    const gone = new AbortController();
    outgoing.on("close", () => gone.abort(new Error("the caller hung up")));
    const request = new Request(`http://127.0.0.1${incoming.url}`, {
      method: "POST",
      headers: incoming.headers as Record<string, string>,
      body: Readable.toWeb(incoming) as ReadableStream<Uint8Array>,
      duplex: "half",
      signal: gone.signal,
    } as RequestInit);
    const response = await fetchIt(request);
    outgoing.writeHead(response.status, Object.fromEntries(response.headers));
    outgoing.end(await response.text());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  servers.push(server);
  const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, ...headers },
    body: JSON.stringify({
      id: "42",
      type: "ingest_slack",
      attempt: 1,
      max_attempts: 4,
      tenant_id: "acme",
      payload,
      ...(callback && { callback: { url: `${queue.url}/`, token: "t0ken" } }),
    }),
    signal,
  });
  return {
    status: response.status,
    headers: response.headers,
    body: JSON.parse(await response.text()),
  };
}

function reports(): unknown[] {
  return queue.heard.map(({ body }) => JSON.parse(body));
}

test("does the job and answers with its result; progress is told meanwhile", async () => {
  const schema = z.object({ channel: z.string(), limit: z.number().default(7) });

  const sent = await send(
    async ({ job, payload, progress, signal }) => {
      progress(50, "half");
      await eventually(() => queue.heard.length === 1);
      return { ...payload, key: job.idempotencyKey, aborted: signal.aborted };
    },
    { schema },
    { payload: { channel: "C1" } },
  );

  assert.equal(sent.status, 200);
  assert.equal(sent.headers.get("content-type"), "application/json");
  assert.deepEqual(sent.body, { channel: "C1", limit: 7, key: "job_42", aborted: false });
  assert.deepEqual(reports(), [{ report: "progress", percent: 50, message: "half" }]);
});

test("no result is null, and so is none that JSON knows", async () => {
  assert.deepEqual((await send(() => undefined)).body, null);
});

for (const [what, thrown, status, code, title] of [
  ["an error", new Error("no quota"), 500, "FUNCTION_FAILED", "no quota"],
  [
    "an error with a code of its own",
    Object.assign(new Error("closed"), { code: "ECONNRESET" }),
    500,
    "ECONNRESET",
    "closed",
  ],
  ["no error at all", "just a text", 500, "FUNCTION_FAILED", "just a text"],
  ["a refusal", new Refused("no such channel"), 422, "JOB_REFUSED", "no such channel"],
  ["a later time", new RetryLater("busy", 16.2), 503, "RETRY_LATER", "busy"],
] as const) {
  test(`${what} that is thrown answers ${status} and says why`, async () => {
    const sent = await send(() => {
      throw thrown;
    });

    assert.equal(sent.status, status);
    assert.equal(sent.headers.get("content-type"), "application/problem+json");
    assert.equal(sent.headers.get("retry-after"), status === 503 ? "17" : null);
    assert.deepEqual(sent.body, { type: "about:blank", status, code, title });
  });
}

test("a later time without a number leaves the wait to the queue", async () => {
  const sent = await send(() => {
    throw new RetryLater("busy");
  });

  assert.deepEqual([sent.status, sent.headers.get("retry-after")], [503, null]);
});

test("a result that is no JSON is refused: doing it again would not help", async () => {
  const sent = await send(() => ({ size: 1n }));

  assert.equal(sent.status, 422);
  assert.match(JSON.stringify(sent.body), /Result is invalid at size/);
});

test("who may not call does not get to the work, and a wrong payload neither", async () => {
  const never = (): never => assert.fail("it was called");
  assert.equal((await send(never, {}, { key: "no" })).status, 401);

  const schema = z.object({ channel: z.string() });
  const sent = await send(never, { schema }, { payload: { channel: 7 } });

  assert.equal(sent.status, 422);
  assert.match(JSON.stringify(sent.body), /Payload is invalid at channel: /);
});

test("a signing secret that is none answers 500, and names no secret", async () => {
  const headers = {
    "webhook-id": "job_42_1",
    "webhook-timestamp": String(Math.floor(Date.now() / 1_000)),
    "webhook-signature": "v1,AAAA",
  };

  const sent = await send(() => 1, { access: { signingSecrets: ["hush"] } }, { headers });

  assert.equal(sent.status, 500);
  assert.doesNotMatch(JSON.stringify(sent.body), /hush/);
});

test("the work is stopped when the caller hangs up", async () => {
  const controller = new AbortController();
  let reason: unknown;

  const sending = send(
    async ({ signal }) => {
      controller.abort();
      await eventually(() => signal.aborted);
      reason = signal.reason;
    },
    {},
    { signal: controller.signal },
  );

  await assert.rejects(sending);
  await eventually(() => reason);
});

test("the work is stopped when progress finds the lease lost", async () => {
  statuses = { progress: 409 };

  const sent = await send(async ({ progress, signal }) => {
    progress(1);
    await eventually(() => signal.aborted);
    assert.ok(signal.reason instanceof LeaseLostError);
    throw signal.reason;
  });

  assert.equal(sent.status, 409);
  assert.match(JSON.stringify(sent.body), /LEASE_LOST/);
});

test("an isolate that ends gives the job back with what it is told to say", async () => {
  const stopping = new AbortController();

  const sent = await send(
    async ({ signal }) => {
      stopping.abort(new RetryLater("the isolate ends", 1));
      signal.throwIfAborted();
    },
    { stopping: stopping.signal },
  );

  assert.deepEqual([sent.status, sent.headers.get("retry-after")], [503, "1"]);
});

test("later: answers at once, holds the lease while it works, and tells the result", async () => {
  const clock = fakeClock();
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const kept: Promise<unknown>[] = [];

  const sent = await send(
    async ({ signal }) => {
      await finished;
      return { aborted: signal.aborted };
    },
    { later: true, clock, leaseSeconds: 90, waitUntil: (work) => kept.push(work) },
  );

  assert.equal(sent.status, 202);
  await eventually(() => queue.heard.length === 1);
  assert.deepEqual(reports(), [{ report: "extend", seconds: 90 }]);
  for (const round of [1, 2]) {
    await eventually(() => clock.waits.filter((ms) => ms === 30_000).length === round);
    clock.advance(30_000);
    await eventually(() => queue.heard.length === round + 1);
  }
  finish();
  assert.equal(kept.length, 1);
  await kept[0];

  assert.deepEqual(reports().at(-1), { report: "complete", result: { aborted: false } });
});

test("later: an error is told with what it means for the job", async () => {
  for (const [thrown, expected] of [
    [new Error("no quota"), { error: "no quota", retryable: true }],
    [new Refused("no such channel"), { error: "no such channel", retryable: false }],
    [new RetryLater("busy", 9), { error: "busy", retryable: true, retry_after_seconds: 9 }],
  ] as const) {
    const kept: Promise<unknown>[] = [];
    await send(
      () => {
        throw thrown;
      },
      { later: true, waitUntil: (work) => kept.push(work) },
    );
    await kept[0];

    assert.deepEqual(
      reports().find((one) => (one as { report: string }).report === "fail"),
      { report: "fail", ...expected },
    );
    queue.heard.length = 0;
  }
});

test("later: work whose lease is lost is stopped", async () => {
  statuses = { extend: 409, fail: 409 };
  const kept: Promise<unknown>[] = [];
  let reason: unknown;

  await send(
    async ({ signal }) => {
      await eventually(() => signal.aborted);
      reason = signal.reason;
      throw signal.reason;
    },
    { later: true, waitUntil: (work) => kept.push(work) },
  );
  await kept[0];

  assert.ok(reason instanceof LeaseLostError);
});

test("later: a queue that can't be told ends in a line of the log, and nothing breaks", async () => {
  statuses = { extend: 500, complete: 400 };
  const kept: Promise<unknown>[] = [];
  const lines: string[] = [];
  const logger = { ...silentLogger, error: (event: string) => void lines.push(event) };

  await send(() => 1, { later: true, logger, waitUntil: (work) => kept.push(work) });
  await kept[0];

  assert.deepEqual(lines, ["job.report_failed"]);
});

test("later: a job without a callback is answered at its end", async () => {
  const sent = await send(() => 7, { later: true }, { callback: false });

  assert.deepEqual([sent.status, sent.body], [200, 7]);
});

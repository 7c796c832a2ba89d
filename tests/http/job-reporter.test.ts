/** The reporter against a real HTTP server in the queue's place. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { type ReporterTools, reporterOf } from "../../src/http/job-reporter.ts";
import { fakeClock } from "../core/fake-clock.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpServer, sendJson, startHttpServer } from "../support/http-server.ts";

let queue: HttpServer;
let answer: (response: ServerResponse) => void;

before(async () => {
  queue = await startHttpServer((_heard, response) => answer(response));
});
after(() => queue.close());
beforeEach(() => {
  queue.heard.length = 0;
  answer = (response) => sendJson(response, 200, { accepted: true });
});

function reporter(tools: ReporterTools = {}): ReturnType<typeof reporterOf> {
  const callback = { url: `${queue.url}/queue-worker?action=report`, token: "t0ken" };
  return reporterOf({ callback }, tools);
}

function reports(): unknown[] {
  return queue.heard.map(({ body }) => JSON.parse(body));
}

function refuses(status: number): void {
  answer = (response) => sendJson(response, status, { code: "LEASE_LOST" });
}

test("each report is a POST with the callback's token", async () => {
  const { complete, fail, extend } = reporter();

  assert.equal(await extend(90), true);
  assert.equal(await complete({ messages: 3 }), true);
  assert.equal(await fail(new Error("no quota"), { retryable: false }), true);
  assert.equal(await fail("busy", { retryAfterSeconds: 5 }), true);

  assert.deepEqual(reports(), [
    { report: "extend", seconds: 90 },
    { report: "complete", result: { messages: 3 } },
    { report: "fail", error: "no quota", retryable: false },
    { report: "fail", error: "busy", retryable: true, retry_after_seconds: 5 },
  ]);
  const [first] = queue.heard;
  assert.deepEqual([first?.method, first?.path], ["POST", "/queue-worker?action=report"]);
  assert.equal(first?.headers.authorization, "Bearer t0ken");
});

test("a job without a result completes with null; what Postgres can't keep is replaced", async () => {
  await reporter().complete();
  await reporter().complete("a\0b");
  await reporter().fail(new Error("a\0b"));

  assert.deepEqual(reports(), [
    { report: "complete", result: null },
    { report: "complete", result: "a\uFFFDb" },
    { report: "fail", error: "a\uFFFDb", retryable: true },
  ]);
});

test("a lost lease is an answer and no error", async () => {
  refuses(409);

  assert.equal(await reporter().extend(60), false);
  assert.equal(await reporter().complete(1), false);
  assert.equal(await reporter().fail("no"), false);
});

test("progress: the first at once, then the newest each second, and nothing after the end", async () => {
  const clock = fakeClock();
  const pauses = (): number => clock.waits.filter((ms) => ms === 1_000).length;
  const { progress, stop } = reporter({ clock });

  progress(1, "one");
  for (let percent = 2; percent <= 40; percent += 1) progress(percent, "more", { percent });
  await eventually(() => pauses() === 1);
  clock.advance(999);
  assert.equal(clock.waits.length, 2, "a second call was begun");
  clock.advance(1);
  await eventually(() => pauses() === 2);
  progress(41);
  stop();
  clock.advance(5_000);

  assert.deepEqual(reports(), [
    { report: "progress", percent: 1, message: "one" },
    { report: "progress", percent: 40, message: "more", data: { percent: 40 } },
  ]);
});

test("the end of a job drops the progress that was not told yet", async () => {
  const clock = fakeClock();
  const { progress, complete } = reporter({ clock });

  progress(10);
  await eventually(() => clock.waits.includes(1_000));
  progress(99);
  await complete(7);
  clock.advance(1_000);
  await complete(8);

  const kinds = reports().map((one) => (one as { report: string }).report);
  assert.deepEqual(kinds, ["progress", "complete", "complete"]);
});

test("progress that can't be told is nobody's trouble; a lost lease is told once it shows", async () => {
  const clock = fakeClock();
  let lost = 0;
  const { progress } = reporter({
    clock,
    onLost: () => {
      lost += 1;
    },
  });

  refuses(500);
  progress(10);
  await eventually(() => clock.waits.includes(1_000));
  assert.equal(lost, 0);
  refuses(409);
  progress(20);
  clock.advance(1_000);
  await eventually(() => lost === 1);
});

test("the end of a job is told again until it is heard", async () => {
  const clock = fakeClock();
  let calls = 0;
  answer = (response) => {
    calls += 1;
    // Once without an answer at all.
    if (calls === 1) response.destroy();
    else sendJson(response, calls < 3 ? 503 : 200, {});
  };

  const done = reporter({ clock }).complete("done");
  await eventually(() => clock.waits.includes(500));
  clock.advance(500);
  await eventually(() => clock.waits.includes(2_000));
  clock.advance(2_000);

  assert.equal(await done, true);
  assert.equal(calls, 3);
});

test("an answer that makes no sense is an error with a code", async () => {
  refuses(401);
  await assert.rejects(reporter().complete(1), { code: "REPORT_UNAUTHORIZED", status: 401 });
  refuses(400);
  await assert.rejects(reporter().complete(1), { code: "REPORT_REFUSED", status: 400 });
  assert.equal(queue.heard.length, 2);
  refuses(500);
  await assert.rejects(reporter().extend(60), { code: "REPORT_FAILED", status: 500 });
  const callback = { url: "http://127.0.0.1:1/", token: "t" };
  await assert.rejects(reporterOf({ callback }).extend(60), {
    code: "REPORT_FAILED",
    status: null,
  });
  await assert.rejects(reporterOf({ callback: null }).complete(1), { code: "NO_CALLBACK" });
});

test("a redirect is not followed: it would take the token along", async () => {
  answer = (response) => response.writeHead(307, { location: `${queue.url}/other` }).end();

  await assert.rejects(reporter().extend(60), { code: "REPORT_FAILED" });

  assert.equal(queue.heard.length, 1);
});

test("a queue that does not answer is given up, and so is one when the signal aborts", async () => {
  answer = () => undefined;
  const clock = fakeClock();

  const waiting = reporter({ clock }).extend(60);
  await eventually(() => queue.heard.length === 1);
  clock.advance(10_000);
  await assert.rejects(waiting, { code: "REPORT_FAILED" });

  const controller = new AbortController();
  const aborted = reporter({ clock, signal: controller.signal }).extend(60);
  await eventually(() => queue.heard.length === 2);
  controller.abort(new Error("the isolate ends"));
  await assert.rejects(aborted, /the isolate ends/);
});

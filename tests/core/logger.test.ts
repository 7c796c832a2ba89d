import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import {
  consoleLogger,
  jsonLogger,
  shielded,
  silentLogger,
  withFields,
} from "../../src/core/logger.ts";

function collect(): { lines: string[]; write: (level: string, line: string) => void } {
  const lines: string[] = [];
  return { lines, write: (_level, line) => lines.push(line) };
}

test("a line for people has the event and its fields", () => {
  const { lines, write } = collect();

  consoleLogger({ write }).info("job.completed", { jobId: "7", type: "mail send", ms: 3 });

  assert.match(
    lines[0] ?? "",
    /^\d\d:\d\d:\d\d\.\d{3} info {2}job\.completed jobId=7 type="mail send" ms=3$/,
  );
});

test("a line for machines is one JSON object, whatever the fields", () => {
  const { lines, write } = collect();

  jsonLogger({ write }).error("x", { id: 5n, error: new TypeError("bad") });

  const { time, ...rest } = JSON.parse(lines[0] ?? "{}");
  assert.ok(!Number.isNaN(Date.parse(time)));
  assert.deepEqual(rest, { level: "error", event: "x", id: "5", error: "TypeError: bad" });
});

test("levels below the one asked for are not written, and the logger says so", () => {
  const { lines, write } = collect();
  const logger = consoleLogger({ level: "warn", write });

  logger.debug("a");
  logger.info("b");
  logger.warn("c");

  assert.equal(lines.length, 1);
  assert.equal(logger.enabled?.("info"), false);
  assert.equal(logger.enabled?.("error"), true);
  assert.equal(silentLogger.enabled?.("error"), false);
});

test("a logger with fields adds them to every event; the event's own win", () => {
  const { lines, write } = collect();
  const logger = withFields(jsonLogger({ write }), { jobId: "1", type: "a" });

  logger.info("x", { type: "b" });

  const { jobId, type } = JSON.parse(lines[0] ?? "{}");
  assert.deepEqual({ jobId, type }, { jobId: "1", type: "b" });
});

test("a logger that fails later, in a promise, ends no process", async () => {
  const escaped: unknown[] = [];
  const note = (error: unknown): void => void escaped.push(error);
  process.on("unhandledRejection", note);
  const failing = async (): Promise<never> => {
    throw new Error("the log is full");
  };
  const logger = shielded({ debug: failing, info: failing, warn: failing, error: failing });

  logger.error("worker.failed");
  await turn();
  await turn();

  process.removeListener("unhandledRejection", note);
  assert.deepEqual(escaped, []);
});

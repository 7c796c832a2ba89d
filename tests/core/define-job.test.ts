import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { defineJob, type Job } from "../../src/core/define-job.ts";
import { implement, implementBatch } from "../../src/core/implement.ts";
import { parseInput, parseOutput } from "../../src/core/input.ts";
import { unchecked } from "../../src/core/standard-schema.ts";

const receipt = defineJob("billing.receipt", {
  input: z.object({ orderId: z.string(), amount: z.coerce.number() }),
  output: z.object({ messageId: z.string() }),
  queue: "mail",
  priority: "high",
  maxRetries: 7,
  timeout: "30s",
  backoff: { base: "2s", cap: "15m", jitter: 1 },
});

test("a definition carries its policy in the units of the database", () => {
  const { type, queue, priority, maxRetries, timeoutMs, backoff } = receipt;

  assert.deepEqual(
    { type, queue, priority, maxRetries, timeoutMs, backoff },
    {
      type: "billing.receipt",
      queue: "mail",
      priority: "high",
      maxRetries: 7,
      timeoutMs: 30_000,
      backoff: { baseMs: 2_000, capMs: 900_000, jitter: 1 },
    },
  );
});

test("types flow from the schemas: what producers pass, what the handler gets, what it returns", () => {
  const typed: Job<
    { orderId: string; amount: number },
    { messageId: string },
    { orderId: string; amount: unknown }
  > = receipt;
  implement(receipt, ({ input }) => ({ messageId: `${input.orderId}${input.amount.toFixed(2)}` }));
  // @ts-expect-error the result lacks its messageId
  implement(receipt, () => ({ id: "1" }));
  // @ts-expect-error there is no such field in the input
  implement(receipt, ({ input }) => ({ messageId: input.nothing }));
  implementBatch(receipt, ({ jobs }) => jobs.map((job) => ({ messageId: job.input.orderId })));
  assert.equal(typed.type, "billing.receipt");
});

test("options that make no sense are refused when the job is defined", () => {
  const wrong = [
    { priority: "urgent" },
    { maxRetries: -1 },
    { maxRetries: 1.5 },
    { timeout: "soon" },
    { timeout: 0 },
    { backoff: { jitter: 2 } },
    { backoff: { base: -1 } },
  ];
  for (const options of wrong) {
    assert.throws(() => defineJob("a", options as never), { code: "INVALID_OPTION" });
  }
  assert.throws(() => defineJob(""), { code: "INVALID_OPTION", option: "type" });
});

test("input is parsed by its schema, and a fault is told with its path", () => {
  assert.deepEqual(parseInput(receipt, { orderId: "o", amount: "5" }), { orderId: "o", amount: 5 });
  assert.throws(() => parseInput(receipt, { orderId: 1, amount: "5" }), {
    code: "INVALID_PAYLOAD",
    path: "orderId",
  });
  const list = defineJob("list", {
    input: z.object({ to: z.array(z.object({ email: z.email() })) }),
  });
  assert.throws(() => parseInput(list, { to: [{ email: "a@b.co" }, { email: "x" }] }), {
    path: "to[1].email",
  });
});

test("a schema may be asynchronous", async () => {
  const job = defineJob("a", { input: z.string().refine(async (text) => text !== "bad") });

  assert.equal(await parseInput(job, "good"), "good");
  await assert.rejects(async () => parseInput(job, "bad"), { code: "INVALID_PAYLOAD" });
});

test("output is checked too, and without a schema everything goes through", () => {
  assert.throws(() => parseOutput(receipt, {}), { code: "INVALID_RESULT", path: "messageId" });
  assert.equal(parseInput(defineJob("free"), 5), 5);
  assert.equal(parseInput(defineJob("free", { input: unchecked<string>() }), 5), 5);
});

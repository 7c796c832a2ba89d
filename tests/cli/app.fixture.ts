import { unchecked } from "../../src/core/standard-schema.ts";
import { defineJob, implement, type Queue } from "../../src/index.ts";

const echo = defineJob("test.echo", { input: unchecked<unknown>() });
const flaky = defineJob("test.flaky", { backoff: { base: 250, jitter: 0 } });
const doomed = defineJob("test.doomed", { maxRetries: 0 });
const patient = defineJob("test.patient");
const stray = defineJob("test.stray");
const strict = defineJob("test.strict", {
  maxRetries: 7,
  queue: "strict-queue",
  input: {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value) =>
        typeof value === "object" && value !== null && "to" in value
          ? { value: value as { to: string } }
          : { issues: [{ message: "must be there", path: ["to"] }] },
    },
  },
});

export const handlers = [
  implement(echo, ({ input }) => input),
  implement(flaky, ({ attempt }) => {
    if (attempt.number === 1) throw new Error("not yet");
    return "at last";
  }),
  implement(doomed, () => {
    throw new TypeError("it can't be done");
  }),
  // Ends only when it is told to.
  implement(patient, ({ signal, log }) => {
    log.info("patient.waits", { for: "the signal" });
    return new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }),
  implement(strict, () => undefined),
  // Nobody waits for this promise.
  implement(stray, () => void Promise.reject(new Error("stray"))),
];

export async function seed(queue: Queue): Promise<void> {
  await queue.enqueue(echo, "seeded");
  await queue.enqueue(flaky, null);
  await queue.enqueue(doomed, null);
  await queue.enqueue(echo, "soon", { delay: "200ms" });
  const unwanted = await queue.enqueue(echo, "unwanted", { delay: "1h" });
  await queue.cancel(unwanted, { reason: "not wanted" });
  await queue.flow((flow) => {
    const parent = flow.add(echo, "parent");
    flow.add(echo, "child", { after: parent });
  });
}

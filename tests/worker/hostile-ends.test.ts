import assert from "node:assert/strict";
import { it } from "node:test";
import fc from "fast-check";
import {
  defineJob,
  discard,
  fail,
  implement,
  implementBatch,
  type Queue,
  snooze,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { seedFromEnvironment } from "../support/seed.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

const THEN = "then";

function throwing(): never {
  throw new Error("no");
}

/** A proxy that throws whatever is done with it. */
function untouchable(): object {
  const traps = ["get", "has", "getPrototypeOf", "ownKeys", "getOwnPropertyDescriptor"] as const;
  return new Proxy({}, Object.fromEntries(traps.map((trap) => [trap, throwing])));
}

function cyclic(): object {
  const value: { self?: unknown } = {};
  value.self = value;
  return value;
}

/** What handlers return, throw and give as reasons in the wild, and worse. */
const VALUES: Readonly<Record<string, () => unknown>> = {
  "an error": () => new Error("an error"),
  "an object": () => ({ code: 5 }),
  null: () => null,
  undefined: () => undefined,
  "a number": () => 5,
  "a bigint": () => 10n,
  "a symbol": () => Symbol("s"),
  "a function": () => throwing,
  "a cyclic object": cyclic,
  "a NUL and half a pair": () => "a\u0000b\ud800c",
  "ten megabytes": () => "x".repeat(10_000_000),
  "an untouchable proxy": untouchable,
  "a revoked proxy": () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
  "a getter that throws": () => Object.defineProperty({}, "message", { get: throwing }),
  "a then that throws": () => Object.defineProperty({}, THEN, { get: throwing }),
  "a thenable that throws": () => ({ [THEN]: throwing }),
  "a promise with a then of its own": () => Object.assign(Promise.resolve(1), { [THEN]: throwing }),
  "a promise that rejects with a proxy": () => {
    const promise = Promise.reject(untouchable());
    // Given as a reason it is awaited by nobody.
    promise.catch(() => undefined);
    return promise;
  },
  "an array that throws": () => new Proxy([], { get: throwing }),
  "a toJSON that throws": () => ({ toJSON: throwing }),
  "an outcome of our mark and nothing else": () => ({ [Symbol.for("millrace.outcome")]: true }),
  "an outcome whose parts throw": () =>
    new Proxy({ [Symbol.for("millrace.outcome")]: true } as object, {
      get: (target, key) => (typeof key === "symbol" ? Reflect.get(target, key) : throwing()),
    }),
  "an outcome with odd parts": () => ({
    [Symbol.for("millrace.outcome")]: true,
    kind: "completed",
    delayMs: Number.NaN,
    reason: Symbol("r"),
    retryable: "yes",
    error: untouchable(),
  }),
};

const WAYS: Readonly<Record<string, (value: unknown) => unknown>> = {
  return: (value) => value,
  throw: (value) => {
    throw value;
  },
  "discard with": (value) => discard(value),
  "snooze with": (value) => snooze("1h", value),
  "fail with": (value) => fail(value),
  "throw a discard with": (value) => {
    throw discard(value);
  },
};

const value = fc.constantFrom(...Object.keys(VALUES));
const way = fc.constantFrom(...Object.keys(WAYS));
const OPEN: ReadonlySet<string> = new Set(["pending", "processing"]);

interface Case {
  readonly way: string;
  readonly value: string;
  readonly isAsync: boolean;
}

function act({ way: name, value: of, isAsync }: Case): unknown {
  const run = (): unknown => WAYS[name]?.(VALUES[of]?.());
  return isAsync ? Promise.resolve().then(run) : run();
}

describeOnEachServer("whatever a handler ends with", (context) => {
  const aCase = fc.record({ way, value, isAsync: fc.boolean() });

  it("its attempt ends, its slot comes free, and its neighbours go on", async () => {
    const job = defineJob<Case | "good">("odd", { maxRetries: 0 });
    const handler = implement(
      job,
      ({ input }) => (input === "good" ? "fine" : act(input)) as never,
    );
    await withWorker(
      context.db,
      [handler],
      async ({ queue, worker }) => {
        await fc.assert(
          fc.asyncProperty(fc.array(aCase, { minLength: 1, maxLength: 12 }), async (cases) => {
            const odd = await queue.enqueueMany(job, cases);
            const good = await queue.enqueue(job, "good");
            assert.equal(await good.result(), "fine");
            for (const each of odd) {
              await eventually(async () => !OPEN.has((await queue.get(each)).status));
            }
            await eventually(() => worker.running === 0);
          }),
          { seed: seedFromEnvironment(), numRuns: 12 },
        );
      },
      { concurrency: 2 },
    );
  });

  it("in a batch it harms its own job only", async () => {
    const job = defineJob<Case | "good">("odd-batch", { maxRetries: 0 });
    const handler = implementBatch(
      job,
      ({ jobs }) => {
        const ends = jobs.map(({ input }) => (input === "good" ? "fine" : VALUES[input.value]?.()));
        // An entry that throws when it is read.
        return new Proxy(ends, {
          get: (target, key, self) => {
            const input = typeof key === "string" ? jobs[Number(key)]?.input : undefined;
            if (typeof input === "object" && input.way === "throw") throwing();
            return Reflect.get(target, key, self) as unknown;
          },
        }) as never;
      },
      { maxSize: 50 },
    );
    await withWorker(context.db, [handler], async ({ queue, worker }) => {
      const cases = Object.keys(VALUES)
        .filter((each) => !each.includes("promise"))
        .map((each): Case => ({ way: "return", value: each, isAsync: false }));
      const made = await queue.enqueueMany(job, [
        ...cases,
        "good",
        { way: "throw", value: "null", isAsync: false },
        "good",
      ]);
      const goods = [made[cases.length], made[cases.length + 2]];
      for (const each of goods) assert.equal(await each?.result(), "fine");
      for (const each of made) {
        await eventually(async () => !OPEN.has((await queue.get(each)).status));
      }
      await eventually(() => worker.running === 0);
    });
  });

  it("a batch that returns one outcome ends all of its jobs in this way", async () => {
    const job = defineJob("later", { maxRetries: 0 });
    const handler = implementBatch(job, () => snooze("1h", new Error("not now")));
    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      await queue.enqueueMany(job, [1, 2, 3]);
      const snoozed = await seen("snoozed", 3);
      assert.deepEqual(
        snoozed.map(({ reason }) => reason),
        Array(3).fill("Error: not now"),
      );
    });
  });

  it("an error that its own calls for other jobs raise is tried again like any other", async () => {
    let other: Queue | undefined;
    const child = defineJob("child", { input: rejecting() });
    const outer = defineJob("outer", { maxRetries: 1, backoff: { base: 10, jitter: 0 } });
    const own = defineJob("own-input", { maxRetries: 3, input: rejecting() });
    await withWorker(
      context.db,
      [
        implement(outer, async ({ attempt }) => {
          if (attempt.number === 1) await other?.enqueue(child, {} as never);
          return attempt.number;
        }),
        implement(own, () => undefined),
      ],
      async ({ queue, seen }) => {
        other = queue;
        const job = await queue.enqueue(outer, {});
        assert.equal(await job.result(), 2);
        const [retried] = await seen("retried");
        assert.equal(retried?.error.code, "INVALID_PAYLOAD");

        await context.db.sql`select public.enqueue_job('own-input', '{}')`;
        const [failed] = await seen("failed");
        assert.deepEqual([failed?.error.code, failed?.job.attempt], ["INVALID_PAYLOAD", 1]);
      },
    );
  });
});

/** A schema that refuses everything. */
function rejecting(): never {
  return {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: () => ({ issues: [{ message: "never fits" }] }),
    },
  } as never;
}

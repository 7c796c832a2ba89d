import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, defineJob, type Queue } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";

const plain = defineJob<unknown, void>("plain");
/** Refused by the database, and with it the call that tells of it. */
const TOO_LARGE = "x".repeat(2 * 1024 * 1024);

describeOnEachServer("jobs that are enqueued at the same time", (context) => {
  let sql: Sql;
  let statements: string[];
  let queue: Queue;
  before(() => {
    const connection = connect(context.db.url);
    statements = [];
    sql = {
      ...connection,
      query(text, params, options) {
        statements.push(text);
        return connection.query(text, params, options);
      },
    };
    queue = createQueue({ sql });
  });
  after(() => sql.close());

  async function enqueueAll(count: number, options: (n: number) => object = () => ({})) {
    statements.length = 0;
    return Promise.all(
      Array.from({ length: count }, (_, n) => queue.enqueue(plain, { n }, options(n))),
    );
  }

  it("share a few statements, and each gets its own id, in the order of the calls", async () => {
    const jobs = await enqueueAll(100);

    assert.ok(statements.length <= 4, `${statements.length} statements`);
    assert.equal(new Set(jobs.map(({ id }) => id)).size, 100);
    const rows = await Promise.all(jobs.map((job) => queue.get(job)));
    assert.deepEqual(
      rows.map(({ payload }) => payload),
      Array.from({ length: 100 }, (_, n) => ({ n })),
    );
  });

  it("keep their own options", async () => {
    const jobs = await enqueueAll(20, (n) =>
      n % 2 === 0 ? { priority: "high", tenantId: `t${n % 4}` } : { maxRetries: n, delay: "1h" },
    );

    const rows = await Promise.all(jobs.map((job) => queue.get(job)));
    assert.deepEqual(
      rows.map((row) => (row.priority === "high" ? row.tenant_id : [row.max_retries, row.status])),
      Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? `t${n % 4}` : [n, "scheduled"])),
    );
  });

  it("fail each by itself: one that is refused takes no other with it", async () => {
    const answers = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) =>
        queue.enqueue(plain, n, n === 7 ? { backoff: { jitter: 7 } } : {}),
      ),
    );

    assert.deepEqual(
      answers.flatMap(({ status }, n) => (status === "rejected" ? [n] : [])),
      [7],
    );
    assert.equal((answers[7] as PromiseRejectedResult).reason.code, "INVALID_OPTION");
    const ids = answers.flatMap((one) => (one.status === "fulfilled" ? [one.value.id] : []));
    assert.equal(new Set(ids).size, 19);
  });

  it("of one idempotency key are one job", async () => {
    const jobs = await Promise.all(
      Array.from({ length: 10 }, () => queue.enqueue(plain, {}, { idempotencyKey: "once" })),
    );

    assert.equal(new Set(jobs.map(({ id }) => id)).size, 1);
    assert.equal(jobs.filter(({ outcome }) => outcome === "created").length, 1);
  });

  it("do not wait for one of another tenant that has to wait for somebody's transaction", async () => {
    const held = await context.db.superSql.begin(async (tx) => {
      // Nobody else can use the new name before it is committed.
      await tx`select queue.intern_tenant('new')`;
      const waiting = [1, 2, 3].map((n) => queue.enqueue(plain, n, { tenantId: "new" }));

      const free = await Promise.all([queue.enqueue(plain, 1), queue.enqueue(plain, 2)]);

      assert.equal(free.length, 2);
      return { waiting };
    });
    assert.equal((await Promise.all(held.waiting)).length, 3);
  });

  it("share a statement each time when ten loops enqueue the next job after the last", async () => {
    statements.length = 0;

    const loop = async (_: unknown, at: number): Promise<void> => {
      for (let n = 0; n < 5; n++) {
        await queue.enqueue(plain, { n });
        await somethingOfItsOwn(at);
      }
    };
    const somethingOfItsOwn = async (hops: number): Promise<void> => {
      if (hops > 0) await somethingOfItsOwn(hops - 1);
    };
    await Promise.all(Array.from({ length: 10 }).map(loop));

    assert.equal(statements.length, 5);
  });

  it("go alone when they come alone", async () => {
    statements.length = 0;

    await queue.enqueue(plain, 1);
    await queue.enqueue(plain, 2);

    assert.equal(statements.length, 2);
  });

  it("are given up each by itself after they were refused together", async () => {
    const given: unknown[] = [];
    let sent = 0;
    const isStuck = createQueue({
      sql: {
        ...sql,
        query(...[text, params, options]: Parameters<Sql["query"]>) {
          // One that is sent alone is never answered, as by a network that swallows everything.
          if (!text.includes("enqueue_one") || params?.[1] !== '"stuck"') {
            return sql.query(text, params, options);
          }
          sent += 1;
          return new Promise((_, reject) => {
            const onAbort = (): void => {
              given.push(options?.signal?.reason);
              reject(options?.signal?.reason);
            };
            if (options?.signal?.aborted) onAbort();
            options?.signal?.addEventListener("abort", onAbort);
          });
        },
      },
    });
    const givers = [new AbortController(), new AbortController()];
    const stuck = givers.map(({ signal }) => isStuck.enqueue(plain, "stuck", { signal }));
    const ends = stuck.map((answer) => answer.catch((error: unknown) => error));
    await assert.rejects(isStuck.enqueue(plain, TOO_LARGE), { code: "INVALID_PAYLOAD" });
    await eventually(() => sent === 2);

    for (const [at, giver] of givers.entries()) {
      const reason = new Error(`enough of ${at}`);
      giver.abort(reason);
      assert.equal(await ends[at], reason);
      assert.equal(given[at], reason);
      assert.equal(given.length, at + 1);
    }
  });

  it("are not sent any more when nobody waits for them after they were refused together", async () => {
    const over = new AbortController();
    const alone: unknown[] = [];
    const watched = createQueue({
      sql: {
        ...sql,
        async query(...[text, params, options]: Parameters<Sql["query"]>) {
          if (text.includes("enqueue_one")) alone.push(params?.[1]);
          try {
            return await sql.query(text, params, options);
          } catch (error) {
            over.abort(new Error("enough"));
            throw error;
          }
        },
      },
    });
    const ends = await Promise.allSettled([
      watched.enqueue(plain, "given up", { signal: over.signal }),
      watched.enqueue(plain, TOO_LARGE),
      watched.enqueue(plain, "wanted"),
    ]);

    assert.deepEqual(
      ends.map(({ status }) => status),
      ["rejected", "rejected", "fulfilled"],
    );
    assert.deepEqual(alone, [JSON.stringify(TOO_LARGE), '"wanted"']);
  });
});

import assert from "node:assert/strict";
import { before, it } from "node:test";
import { z } from "zod";
import { defineJob, type HandlerTransaction, implement } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate, loseLeases, withWorker } from "./rig.ts";

const book = defineJob("book", {
  output: z.string(),
  maxRetries: 1,
  backoff: { base: 10, jitter: 0 },
});

function write(tx: HandlerTransaction, text: string): Promise<unknown> {
  return tx.query("insert into ledger (entry) values ($1)", [text]);
}

describeOnEachServer("commitWith", (context) => {
  before(() => context.db.sql`create table ledger (entry text)`);

  async function entries(): Promise<string[]> {
    const rows = await context.db.sql`select entry from ledger order by entry`;
    return rows.map((row) => row["entry"]);
  }

  it("completes the job and keeps the handler's writes, in one transaction", async () => {
    const handler = implement(book, async ({ commitWith }) => {
      await commitWith(async (tx) => {
        await write(tx, "kept");
        return "the result";
      });
      return "ignored";
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const job = await queue.enqueue(book, {});
      assert.equal(await job.result(), "the result");
      assert.equal((await seen("completed")).length, 1);
      assert.deepEqual(await entries(), ["kept"]);
    });
  });

  it("keeps nothing when the lease was lost, and the job is another's", async () => {
    const started = gate();
    const goOn = gate();
    const codes: string[] = [];
    const handler = implement(book, async ({ commitWith, attempt }) => {
      if (attempt.number > 1) return "second";
      started.open();
      await goOn.opened;
      try {
        await commitWith(async (tx) => {
          await write(tx, "must not stay");
          return "first";
        });
      } catch (error) {
        codes.push((error as { code: string }).code);
        throw error;
      }
      return "first";
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        const job = await queue.enqueue(book, {});
        await started.opened;
        await loseLeases(context.db);
        goOn.open();

        assert.equal(await job.result(), "second");
        await seen("lost");
        await eventually(() => codes.length > 0);
        assert.deepEqual(codes, ["LEASE_LOST"]);
        assert.deepEqual(await entries(), ["kept"]);
      },
      { leaseMs: 60_000 },
    );
  });

  it("keeps nothing when the handler's own work throws; the attempt fails and is tried again", async () => {
    const handler = implement(book, async ({ commitWith, attempt }) => {
      await commitWith(async (tx) => {
        await write(tx, `try ${attempt.number}`);
        if (attempt.number === 1) throw new Error("changed my mind");
        return "done";
      });
      return "";
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const job = await queue.enqueue(book, {});
      assert.equal(await job.result(), "done");
      await seen("retried");
      assert.deepEqual(await entries(), ["kept", "try 2"]);
    });
  });

  it("leaves the job open when the commit of the handler's writes is refused; the attempt fails and is tried again", async () => {
    await context.db.sql`
      create table once (entry text unique deferrable initially deferred)`;
    await context.db.sql`insert into once values ('taken')`;
    const handler = implement(book, async ({ commitWith, attempt }) => {
      await commitWith(async (tx) => {
        const entry = attempt.number === 1 ? "taken" : "free";
        await tx.query("insert into once values ($1)", [entry]);
        return entry;
      });
      return "";
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const job = await queue.enqueue(book, {});
      assert.equal(await job.result(), "free");
      const rows = await context.db.sql`select entry from once order by entry`;
      assert.deepEqual(
        rows.map((row) => row["entry"]),
        ["free", "taken"],
      );
    });
  });

  it("checks the result before anything is kept", async () => {
    const handler = implement(book, async ({ commitWith }) => {
      await commitWith(async (tx) => {
        await write(tx, "must not stay either");
        return 5 as never;
      });
      return "";
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const job = await queue.enqueue(book, {});
      await assert.rejects(job.result(), {
        code: "JOB_FAILED",
        attempts: 1,
        message: /Result is invalid/,
      });
      assert.deepEqual(await entries(), ["kept", "try 2"]);
    });
  });

  it("can be done once; what the handler does after it changes nothing", async () => {
    const handler = implement(book, async ({ commitWith }) => {
      await commitWith(async () => "once");
      await commitWith(async (tx) => {
        await write(tx, "twice");
        return "twice";
      });
      return "";
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const job = await queue.enqueue(book, {});
      assert.equal(await job.result(), "once");
      assert.deepEqual(await entries(), ["kept", "try 2"]);
      assert.equal((await queue.get(job)).status, "completed");
    });
  });
});

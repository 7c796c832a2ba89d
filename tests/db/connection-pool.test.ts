import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectionPool, type Pooled, type PoolOptions } from "../../src/db/connection-pool.ts";
import { eventually } from "../support/eventually.ts";

class Thing implements Pooled {
  readonly number: number;
  isLost = false;
  agesAt = Infinity;
  idleSince = 0;

  constructor(number: number) {
    this.number = number;
  }

  end(): void {
    this.isLost = true;
  }
}

function poolOf(options: Partial<PoolOptions<Thing>> = {}) {
  const made: Thing[] = [];
  const pool = new ConnectionPool<Thing>({
    max: 2,
    async open() {
      const thing = new Thing(made.length);
      made.push(thing);
      return thing;
    },
    ...options,
  });
  return { pool, made };
}

test("a connection that is lost is not handed out, and another takes its place", async () => {
  const { pool } = poolOf();
  const first = await pool.acquire();
  pool.release(first);
  assert.equal(await pool.acquire(), first);
  pool.release(first);
  first.isLost = true;

  const second = await pool.acquire();
  assert.equal(second.number, 1);
  second.isLost = true;
  pool.release(second);
  assert.equal((await pool.acquire()).number, 2);
});

test("no more than so many are made; who came first is served first", async () => {
  const { pool, made } = poolOf();
  const [first, second] = [await pool.acquire(), await pool.acquire()];
  const served: string[] = [];
  const waiting = ["a", "b"].map(async (name) => {
    const thing = await pool.acquire();
    served.push(`${name}${thing.number}`);
  });
  pool.release(second);
  pool.release(first);
  await Promise.all(waiting);

  assert.deepEqual(served, ["a1", "b0"]);
  assert.equal(made.length, 2);
});

test("who waits for long gets one beyond them, which is ended when nobody wants it", async () => {
  const { pool, made } = poolOf({ overflowMs: 20 });
  const held = [await pool.acquire(), await pool.acquire()];
  const more = [await pool.acquire(), await pool.acquire()];
  assert.equal(made.length, 4);
  // Twice as many is all that there is.
  const last = pool.acquire();
  for (const thing of [...held, ...more]) pool.release(thing);
  pool.release(await last);
  await eventually(() => made.filter(({ isLost }) => !isLost).length === 2);
});

test("who gives up waiting loses nothing for the others", async () => {
  const { pool } = poolOf({ max: 1 });
  const held = await pool.acquire();
  const controller = new AbortController();
  const impatient = pool.acquire(controller.signal);
  const patient = pool.acquire();
  controller.abort(new Error("enough"));
  await assert.rejects(impatient, /enough/);
  await assert.rejects(pool.acquire(controller.signal), /enough/);
  pool.release(held);
  assert.equal(await patient, held);
});

test("a connection that can't be made is told to who asked, and the next one tries again", async () => {
  let tries = 0;
  const { pool } = poolOf({
    max: 1,
    async open() {
      tries += 1;
      if (tries === 1) throw new Error("refused");
      return new Thing(tries);
    },
  });
  const [first, second] = await Promise.allSettled([pool.acquire(), pool.acquire()]);
  assert.equal(first.status, "rejected");
  assert.equal((second as PromiseFulfilledResult<Thing>).value.number, 2);
});

test("old and idle connections are ended", async () => {
  const { pool, made } = poolOf({ idleMs: 10 });
  const old = await pool.acquire();
  old.agesAt = 0;
  pool.release(old);
  assert.equal(old.isLost, true);
  pool.release(await pool.acquire());
  await eventually(() => made.every(({ isLost }) => isLost));
});

test("a pool that is closed ends all of them, and lets nobody wait", async () => {
  const { pool, made } = poolOf({ max: 1 });
  await pool.acquire();
  const waiting = pool.acquire();
  pool.close();
  await assert.rejects(waiting, { code: "DATABASE_UNREACHABLE" });
  await assert.rejects(pool.acquire(), { code: "DATABASE_UNREACHABLE" });
  assert.ok(made.every(({ isLost }) => isLost));
});

import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import { LeaseBook } from "../../src/worker/lease-book.ts";
import { extend, type UpkeepParts } from "../../src/worker/upkeep.ts";
import { fakeClock } from "../core/fake-clock.ts";
import { describeWithDatabase } from "../support/suite.ts";

const LEASE_MS = 900;
/** Two looks at how long leases still hold. */
const LOOKS_MS = 600;

describeWithDatabase("a lease that somebody else holds", (context) => {
  it("lasts for two more looks at a time and one lease time at most, and is common again afterwards", async () => {
    const { sql: db } = context.db;
    const [made] = await db<{ worker: number; lease: string }[]>`
      select worker.id as worker, queue.enqueue_one('busy') is not null as ok,
        (queue.register_worker('busy', null, null, null) ->> 'worker')::integer as registered
      from (select (queue.register_worker('busy', null, null, null) ->> 'worker')::integer as id) as worker`;
    const worker = made?.worker ?? 0;
    const [row] = await db<{ id: string }[]>`
      select o_leases[1]::text as id from queue.claim(${worker}, null, null, null, null, 1, 60000, null)`;
    const id = row?.id ?? "";
    const clock = fakeClock();
    const book = new LeaseBook();
    const lost: string[] = [];
    const sql = connect(context.db.url);
    const parts = {
      settings: { lifeline: sql, clock, leaseMs: LEASE_MS },
      link: { call: (run: (signal: AbortSignal) => unknown) => run(new AbortController().signal) },
      book,
      verdicts: { loseAll: (lease: { id: string }) => lost.push(lease.id) },
      worker: () => worker,
    } as unknown as UpkeepParts;
    const begun = clock.now();
    const lease = book.open(id, begun + LEASE_MS);
    const stranger = context.db.connect({ max: 1 });
    const deadlines: number[] = [];
    const look = async (ms: number): Promise<void> => {
      clock.advance(ms);
      await extend(parts);
      deadlines.push(lease.deadline - begun);
    };

    await stranger`begin`;
    await stranger`select from queue.leases where id = ${id} for update`;
    for (const ms of [100, 700, 700, 200]) await look(ms);
    await stranger`rollback`;
    await look(0);
    await stranger`delete from queue.leases where id = ${id}`;
    assert.deepEqual(lost, []);
    await look(0);

    assert.deepEqual(deadlines.slice(0, 5), [
      LEASE_MS,
      800 + LOOKS_MS,
      2 * LEASE_MS,
      2 * LEASE_MS,
      1_700 + LEASE_MS,
    ]);
    assert.deepEqual(lost, [id]);
    await sql.close();
  });
});

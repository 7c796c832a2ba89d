/** A worker of the fault campaign that knows the SQL contract alone, over node-postgres with the time limits an application sets. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { plannedFailure, sight, signatureOf } from "../support/identity.ts";
import { openJournal } from "../support/journal.ts";
import { lastType, PLAIN, type Plan } from "./plan.ts";

interface Row {
  readonly id: string;
  readonly type: string;
  readonly tenant_id: string | null;
  readonly lease_id: string;
  readonly attempt: number;
  readonly payload: Plan;
}

const [, , member = "", , url = "", folder = "", leaseMs = ""] = process.argv;
const name = `${member} ${process.pid} ${randomUUID()}`;
const seen = openJournal(`${folder}/seen-${member}.jsonl`);
const pool = new pg.Pool({
  connectionString: url,
  max: 2,
  connectionTimeoutMillis: 3_000,
  query_timeout: 3_000,
});
pool.on("error", () => undefined);
pool.on("connect", (client) => client.on("error", () => undefined));
let isStopping = false;
process.once("SIGTERM", () => {
  isStopping = true;
});

async function perform({ id, type, tenant_id, lease_id, attempt, payload }: Row): Promise<void> {
  const told = { id, type, tenantId: tenant_id, attempt, lease: lease_id, worker: name };
  const sighting = sight(payload, told);
  seen.write(sighting);
  await delay(payload.ms / 4);
  if (attempt <= payload.failures) {
    const failure = plannedFailure(sighting);
    await pool.query("select public.fail_job($1, $2, true, 0.1, $3)", [id, failure, lease_id]);
    return;
  }
  const client = await pool.connect();
  let fault: Error | undefined;
  try {
    await client.query("begin");
    if (payload.end === "commit") {
      await client.query("insert into public.ledger (job_id, nonce, attempt) values ($1, $2, $3)", [
        id,
        payload.who.nonce,
        attempt,
      ]);
    }
    const result = JSON.stringify(signatureOf(sighting));
    const { rows } = await client.query(
      "select queue.settle_one($1, $2, 'completed', null, $3::jsonb) as status",
      [lease_id, id, result],
    );
    if (rows[0]?.status !== "completed") throw new Error("the lease was lost");
    await client.query("commit");
  } catch (error) {
    fault = error as Error;
  } finally {
    client.release(fault);
  }
}

async function turn(): Promise<void> {
  const { rows } = await pool.query<Row>(
    `select id::text, type, tenant_id, lease_id::text, attempt, payload
     from public.get_next_job($1, $2::text[], 5, null, $3)`,
    [name, [PLAIN.type, lastType(member)], Number(leaseMs) / 1000],
  );
  if (rows.length === 0) await delay(100);
  for (const row of rows) await perform(row).catch(() => delay(50));
}

console.log("ready");
while (!isStopping) await turn().catch(() => delay(100));
await pool.end();
process.exit(0);

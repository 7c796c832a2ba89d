/** A caller of the crash campaign that knows the SQL contract alone: claim, work, complete in its own transaction. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "../support/connect.ts";
import { plannedFailure, sight, signatureOf } from "../support/identity.ts";
import { openJournal } from "../support/journal.ts";
import { PLAIN, type Plan } from "./plan.ts";

interface Row {
  readonly id: string;
  readonly type: string;
  readonly tenant_id: string | null;
  readonly lease_id: string;
  readonly attempt: number;
  readonly payload: Plan;
}

const sql = connect(process.env["CRASH_DATABASE_URL"] ?? "", {
  max: 2,
  connection: { application_name: "crash-plain" },
});
const seconds = Number(process.env["CRASH_LEASE_MS"]) / 1000;
const name = `plain ${process.pid} ${randomUUID()}`;
const journal = openJournal(process.env["CRASH_JOURNAL"] ?? "");
let isStopping = false;
process.once("SIGTERM", () => {
  isStopping = true;
});

async function perform({ id, type, tenant_id, lease_id, attempt, payload }: Row): Promise<void> {
  const told = { id, type, tenantId: tenant_id, attempt, lease: lease_id, worker: name };
  const sighting = sight(payload, told);
  const result = JSON.stringify(signatureOf(sighting));
  journal.write(sighting);
  await delay(payload.ms / 4);
  if (payload.stallMs > 0 && attempt === 1) await delay(payload.stallMs);
  if (attempt <= payload.failures) {
    await sql`select public.fail_job(${id}, ${plannedFailure(sighting)}, true, 0.1, ${lease_id})`;
    return;
  }
  await sql.begin(async (tx) => {
    if (payload.hasEffect)
      await tx`insert into public.ledger (job_id, nonce, attempt) values (${id}, ${payload.who.nonce}, ${attempt})`;
    const [row] = await tx`
      select queue.settle_one(${lease_id}, ${id}, 'completed', null, ${result}::text::jsonb) as status`;
    if (row?.["status"] !== "completed") throw new Error("the lease was lost");
  });
}

async function turn(): Promise<void> {
  const rows = await sql<Row[]>`
    select id::text, type, tenant_id, lease_id::text, attempt, payload
    from public.get_next_job(${name}, ${[PLAIN]}::text[], 5, null, ${seconds})`;
  if (rows.length === 0) await delay(100);
  for (const row of rows) await perform(row).catch(() => delay(50));
}

console.log("ready");
while (!isStopping) await turn().catch(() => delay(100));
await sql.end({ timeout: 1 });

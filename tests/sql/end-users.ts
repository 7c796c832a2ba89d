import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { rigOf } from "./rig.ts";

/** A signed-in user of a tenant who claims, in what users can edit, to be of another. */
export function signIn(db: TestDatabase, tenant: string | undefined, forged: string): TestSql {
  return db.connectAs("authenticated", {
    sub: `user of ${tenant}`,
    role: "authenticated",
    app_metadata: { provider: "email", ...(tenant !== undefined && { tenant_id: tenant }) },
    user_metadata: { tenant_id: forged },
    tenant_id: forged,
  });
}

/** A job of a tenant in every status; their ids by status. */
export async function oneOfEach(db: TestDatabase, tenant: string | undefined) {
  const { enqueue, start, complete, fail, inMs } = rigOf(db);
  const mine = tenant === undefined ? {} : { tenant };
  const type = `each of ${tenant ?? "nobody"}`.replaceAll(" ", "-");
  const completed = await start(type, { ...mine, payload: { secret: tenant ?? "nobody" } });
  await complete(completed, { secret: tenant ?? "nobody" });
  const failed = await start(type, mine);
  await fail(failed, `secret of ${tenant}`, { retryable: false });
  const cancelled = await enqueue(type, mine);
  await db.sql`select public.cancel_job(${cancelled})`;
  const processing = await start(type, mine);
  await db.sql`select public.report_progress(${processing.id}, 10, ${`secret of ${tenant}`})`;
  const pending = await enqueue(type, mine);
  const scheduled = await enqueue(type, { ...mine, scheduledAt: await inMs(3_600_000) });
  const blocked = await enqueue(type, { ...mine, dependsOn: [pending] });
  return {
    completed: completed.id,
    failed: failed.id,
    cancelled,
    processing: processing.id,
    pending,
    scheduled,
    blocked,
  };
}

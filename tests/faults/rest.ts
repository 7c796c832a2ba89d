import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "../support/eventually.ts";
import type { Member } from "./fleet.ts";
import { idlePlan, lastType, SLOTS } from "./plan.ts";
import type { Servers } from "./servers.ts";

/** Waits until no job is open; answers how long it took, and what was still open after that time. */
export async function comeToRest(
  servers: Servers,
  timeoutMs: number,
): Promise<{ readonly ms: number; readonly open: string | undefined }> {
  const began = Date.now();
  let open: string | undefined;
  await eventually(
    () =>
      servers.asSuperuser(async (sql) => {
        const [row] = await sql`
          select (select count(*) from queue.ready)::integer as pending, (select count(*) from queue.scheduled)::integer as scheduled,
            (select count(*) from queue.waiting)::integer as blocked,
            (select coalesce(sum(cardinality(job_ids)), 0) from queue.leases)::integer as processing,
            coalesce((select json_agg(to_json(lease.*)) from queue.leases as lease limit 3), '[]') as leases`;
        const { leases: _leases, ...counts } = row ?? {};
        const isOver = row !== undefined && Object.values(counts).every((n) => n === 0);
        open = isOver ? undefined : JSON.stringify(row);
        return isOver;
      }),
    { timeoutMs, intervalMs: 200 },
  ).catch(() => undefined);
  return { ms: Date.now() - began, open };
}

/** Gives each worker as many jobs of its own as it has slots; answers the workers that did not run them all at a time. */
export async function findStuckWorkers(
  servers: Servers,
  members: readonly Member[],
  timeoutMs: number,
): Promise<string[]> {
  await servers.asSuperuser(async (sql) => {
    const jobs = members.flatMap(({ name, way }) =>
      Array.from({ length: way === "sql" ? 1 : SLOTS }, (_, n) => {
        const facts = { nonce: `last.${name}.${n}`, type: lastType(name), tenant: null };
        return { type: facts.type, payload: idlePlan(facts), max_retries: 20 };
      }),
    );
    await sql`select from public.enqueue_jobs(${JSON.stringify(jobs)}::text::jsonb)`;
  });
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await servers.asSuperuser(
      (sql) => sql<{ type: string; status: string; together: number }[]>`
        select type, min(status) as status, max((result ->> 'together')::integer) as together
        from public.job_queue where type like 'faults.last.%' group by type`,
    );
    const stuck = members.filter(({ name, way }) => {
      const row = found.find(({ type }) => type === lastType(name));
      return row?.status !== "completed" || (way !== "sql" && (row.together ?? 0) < SLOTS);
    });
    if (stuck.length === 0) return [];
    if (Date.now() > deadline) {
      return stuck.map(({ name, way }) => {
        const row = found.find(({ type }) => type === lastType(name));
        return `worker ${name} (${way}) is stuck: ${row?.status}, ${row?.together ?? 0} at a time`;
      });
    }
    await delay(200);
  }
}

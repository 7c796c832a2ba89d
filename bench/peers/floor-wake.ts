// The floor of a wake-up: one statement inserts and notifies, and whoever hears of it deletes what there is in one more. No lease,
// no retries, no history; a crash loses what was taken. Only the chain of commit, notification and claim is left.

import postgres from "postgres";
import type { JobSpec } from "./protocol.ts";
import { serve } from "./serve.ts";

let sql: postgres.Sql;

serve({
  async setup(url) {
    const own = postgres(url, { max: 1 });
    await own`create table jobs (id bigint generated always as identity primary key, payload jsonb not null)`;
    await own.end();
  },
  async connect(url) {
    sql = postgres(url, { max: 4 });
    await sql`select 1`;
  },
  async enqueueOne({ payload }) {
    await sql`
      with job as (insert into jobs (payload) values (${sql.json({ ...payload })}) returning id)
      select pg_notify('jobs', '') from job`;
  },
  async enqueueMany(jobs) {
    const payloads = jobs.map(({ payload }) => JSON.stringify(payload));
    await sql`insert into jobs (payload) select p::jsonb from unnest(${payloads}::text[]) as p`;
  },
  async work(_options, handle) {
    const take = async (): Promise<void> => {
      const jobs = await sql<{ payload: JobSpec["payload"] }[]>`delete from jobs returning payload`;
      for (const { payload } of jobs) await handle(payload);
    };
    await sql.listen("jobs", () => void take());
  },
  async count() {
    const [row] = await sql`select count(*) as n from jobs`;
    return { left: Number(row?.["n"]), completed: null };
  },
  async settle() {},
});

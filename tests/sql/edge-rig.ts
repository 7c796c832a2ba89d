import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { only, rigOf } from "./rig.ts";
import { answerRequests } from "./supabase-stubs.ts";

/** What the Vault holds where the doorbell of the Edge worker is set up. */
export const SECRETS = {
  queue_worker_url: "https://project.functions.example/queue-worker",
  queue_worker_token: "a random token",
};

/** Arms the bell of the Edge worker; whether it said that it did. */
export async function arm(sql: TestSql): Promise<boolean> {
  const [row] = await sql<{ armed: boolean }[]>`select queue.arm_edge_bell() as armed`;
  return only(row).armed;
}

export async function isArmed(db: TestDatabase): Promise<boolean> {
  return (await db.superSql`select from queue.bells where queue_id = 0`).length === 1;
}

/** How often it was posted since this was asked last. */
export const posts = (db: TestDatabase): Promise<number> => answerRequests(db);

/** No job, no bell, no ring and no request of an earlier test is left. */
export async function reset(db: TestDatabase): Promise<void> {
  await rigOf(db).clear();
  await db.superSql`truncate net.http_request_queue, queue.rings`;
}

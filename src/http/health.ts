import { healthReport } from "../db/edge-functions.ts";
import type { QueueHealth } from "../db/operator-functions.ts";
import type { Queryable } from "../db/sql.ts";
import type { Prepared } from "./run.ts";

/** How long the database may take to say that it is well. */
const PATIENCE_MS = 10_000;

/** 200 when all is well, 503 when something is not: the database's own report, and what this worker serves. Rejects when nobody answers. */
export async function healthResponse(
  db: Queryable,
  prepare: (signal: AbortSignal) => Promise<Prepared>,
): Promise<Response> {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const [health, prepared]: [QueueHealth, Prepared] = await Promise.all([
    healthReport(db, patience),
    prepare(patience),
  ]);
  const processors = prepared.handlers.map(({ job }) => ({ type: job.type }));
  const isWell = health.status === "ok";
  return Response.json(
    { ...health, database: "reachable", processors },
    { status: isWell ? 200 : 503 },
  );
}

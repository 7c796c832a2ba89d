import { relative, resolve, sep } from "node:path";

const ROOT = resolve(import.meta.dirname, "..");

/**
 * What `npm test` runs a second time, through a pooler in transaction mode: every verb that moves a job, and a worker. Not what only reads
 * (views, stats, the catalog), and not every refusal: a pooler can't change those. Suites of these files that need a session leave
 * themselves out with `{ pooler: false }`.
 */
const POOLED: ReadonlySet<string> = new Set(
  [
    "sql/advance",
    "sql/cancel",
    "sql/claim",
    "sql/claim-fair",
    "sql/complete",
    "sql/dependencies",
    "sql/enqueue",
    "sql/enqueue-many",
    "sql/extend",
    "sql/fail",
    "sql/fence",
    "sql/idempotency",
    "sql/redrive",
    "sql/release",
    "sql/rescue",
    "sql/retry",
    "sql/snooze",
    "worker/commit-with",
    "worker/outcomes",
  ].map((name) => `tests/${name}.test.ts`),
);

/** Those of the files that are to go through PgBouncer too. */
export function pooledFiles(files: readonly string[]): string[] {
  return files.filter((file) => POOLED.has(relative(ROOT, file).split(sep).join("/")));
}

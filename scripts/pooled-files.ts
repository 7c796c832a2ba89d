import { relative, resolve, sep } from "node:path";

const ROOT = resolve(import.meta.dirname, "..");

/** What has to work through a pooler in transaction mode: every verb, and the worker. */
const POOLED = [/^tests\/sql\//, /^tests\/worker\/worker\.test\.ts$/];

/**
 * Files of tests/sql that a pooler can't change: they read the catalog or plans, or count partitions. Suites that need a session
 * leave themselves out with `{ pooler: false }`.
 */
const UNAFFECTED: ReadonlySet<string> = new Set(
  ["access", "conventions", "doorbell", "known-exceptions", "linters", "partitions", "plans"].map(
    (name) => `tests/sql/${name}.test.ts`,
  ),
);

/** Those of the files that `npm test` runs a second time, through PgBouncer. */
export function pooledFiles(files: readonly string[]): string[] {
  return files.filter((file) => {
    const path = relative(ROOT, file).split(sep).join("/");
    return POOLED.some((one) => one.test(path)) && !UNAFFECTED.has(path);
  });
}

import { after, before, describe } from "node:test";
import { createTestDatabase, type TestDatabase } from "./database.ts";
import { MAJORS, missingMajor } from "./majors.ts";
import { sharedServer } from "./shared-servers.ts";

/** What a suite gets; `db` exists from its first hook on, so read it inside tests and hooks. */
export interface SuiteContext {
  readonly major: number;
  readonly db: TestDatabase;
}

/**
 * Describes the same suite once for each Postgres version, with a database of its own. Where a
 * version is not installed the suite is skipped with the name of the package.
 */
export function describeOnEachServer(
  name: string,
  suite: (context: SuiteContext) => void,
  options: { readonly empty?: boolean; readonly majors?: readonly number[] } = {},
): void {
  for (const major of options.majors ?? MAJORS) {
    describe(`${name} (Postgres ${major})`, { skip: missingMajor(major) ?? false }, () => {
      let db: TestDatabase | undefined;
      before(async () => {
        db = await createTestDatabase(await sharedServer(major), options);
      });
      suite({
        major,
        get db() {
          if (!db) throw new Error("db is there only inside tests and hooks");
          return db;
        },
      });
      // After the suite's own hooks: they run in the order they were made, and close what it opened.
      after(async () => {
        await db?.close();
      });
    });
  }
}

/** The same on the newest version alone, for what does not depend on the version. */
export function describeWithDatabase(
  name: string,
  suite: (context: SuiteContext) => void,
  options: { readonly empty?: boolean } = {},
): void {
  describeOnEachServer(name, suite, { ...options, majors: MAJORS.slice(0, 1) });
}

/** Runs `work` with a database of its own on the newest version. */
export async function withDatabase<T>(work: (db: TestDatabase) => Promise<T>): Promise<T> {
  const db = await createTestDatabase(await sharedServer(MAJORS[0] ?? 18));
  try {
    return await work(db);
  } finally {
    await db.close();
  }
}

import { after, before, describe } from "node:test";
import { createTestDatabase, type TestDatabase } from "./database.ts";
import { MAJORS, missingMajor } from "./majors.ts";
import { pgbouncerMissing } from "./pgbouncer.ts";
import { POOLER_CHOICE } from "./server-environment.ts";
import { sharedPooler, sharedServer } from "./shared-servers.ts";

/** What a suite gets; `db` exists from its first hook on, so read it inside tests and hooks. */
export interface SuiteContext {
  readonly major: number;
  /** Whether `db.sql`, `db.connect` and the URLs lead through PgBouncer. */
  readonly isPooled: boolean;
  readonly db: TestDatabase;
}

export interface SuiteOptions {
  /** A database without the migrations. @default false */
  readonly empty?: boolean;
  /** @default all versions that are supported */
  readonly majors?: readonly number[];
  /**
   * Whether the suite can go through a pooler in transaction mode. Not if it needs a session beyond a transaction: `set role`,
   * LISTEN, session settings, a backend's process id. @default true
   */
  readonly pooler?: boolean;
  /**
   * For suites that mostly wait: whether they run on all versions at the same time, or even all of their tests do, each with workers and
   * types of its own. @default one after the other
   */
  readonly atOnce?: "versions" | "tests";
}

const NEWEST = MAJORS[0] ?? 18;

/**
 * Describes the same suite once for each Postgres version, with a database of its own. Where a
 * version is not installed the suite is skipped with the name of the package.
 *
 * With MILLRACE_TEST_POOLER=1 it is described once instead: on the newest version, through PgBouncer in transaction mode.
 */
export function describeOnEachServer(
  name: string,
  suite: (context: SuiteContext) => void,
  options: SuiteOptions = {},
): void {
  const majors = options.majors ?? MAJORS;
  if (POOLER_CHOICE === "pooled") {
    if (options.pooler === false || !majors.includes(NEWEST)) return;
    const skip = pgbouncerMissing || (missingMajor(NEWEST) ?? false);
    describeOn(NEWEST, `${name} (Postgres ${NEWEST} through PgBouncer)`, skip, suite, options);
    return;
  }
  const onEach = (): void => {
    for (const major of majors) {
      const skip = missingMajor(major) ?? false;
      describeOn(major, `${name} (Postgres ${major})`, skip, suite, options);
    }
  };
  if (options.atOnce && majors.length > 1) describe(name, { concurrency: true }, onEach);
  else onEach();
}

/** The same on the newest version alone, for what does not depend on the version. */
export function describeWithDatabase(
  name: string,
  suite: (context: SuiteContext) => void,
  options: Omit<SuiteOptions, "majors"> = {},
): void {
  describeOnEachServer(name, suite, { ...options, majors: MAJORS.slice(0, 1) });
}

/** Runs `work` with a database of its own on the newest version. */
export async function withDatabase<T>(work: (db: TestDatabase) => Promise<T>): Promise<T> {
  const db = await makeDatabase(NEWEST, {});
  try {
    return await work(db);
  } finally {
    await db.close();
  }
}

function describeOn(
  major: number,
  name: string,
  skip: string | false,
  suite: (context: SuiteContext) => void,
  options: SuiteOptions,
): void {
  describe(name, { skip, concurrency: options.atOnce === "tests" }, () => {
    let db: TestDatabase | undefined;
    before(async () => {
      db = await makeDatabase(major, options);
    });
    suite({
      major,
      isPooled: POOLER_CHOICE === "pooled",
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

async function makeDatabase(major: number, { empty }: SuiteOptions): Promise<TestDatabase> {
  const server = await sharedServer(major);
  const pooler = POOLER_CHOICE === "pooled" ? await sharedPooler(server) : undefined;
  return createTestDatabase(server, { ...(empty && { empty }), ...(pooler && { pooler }) });
}

import { NotAllowedError } from "../../core/database-errors.ts";
import { QueueError } from "../../core/errors.ts";
import {
  benchDatabaseName,
  createBenchDatabase,
  dropBenchDatabase,
  dropIdleBenchDatabase,
  dropWorkerRole,
  hasWorkerRole,
  isOccupied,
  leftBenchDatabases,
  ping,
} from "../../db/bench-database.ts";
import type { ServerFacts } from "../../db/inspect-server.ts";
import type { Sql } from "../../db/sql.ts";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import type { OpenDatabase } from "../database.ts";
import { EXIT } from "../exit-codes.ts";

/** A database for one measurement, on the server of the user's own. */
export interface OwnDatabase {
  readonly name: string;
  readonly sql: Sql;
  /** Drops it. Done when the command ends in any case, then without a second try. */
  drop(): Promise<void>;
}

/** As many connections as producers, so that none of them waits for another. */
const CONNECTIONS = 10;
/** The end of a command must not take for ever, also where the server has gone silent. */
const DROP_MS = 30_000;

/** Makes a database for a measurement, still empty, and sees to it that it is dropped however the command ends. Throws CliError. */
export async function makeOwnDatabase(
  context: CliContext,
  { sql: server, beside, place }: OpenDatabase,
  { user, now_ms }: ServerFacts,
): Promise<OwnDatabase> {
  const name = benchDatabaseName(now_ms);
  const hadRole = await hasWorkerRole(server);
  await create(server, name, user);

  const sql = beside(name, { max: CONNECTIONS, applicationName: "millrace bench" });
  let isTried = false;
  const drop = async (): Promise<void> => {
    if (isTried) return;
    isTried = true;
    await sql.close();
    const patience = AbortSignal.any([context.interrupts.force, AbortSignal.timeout(DROP_MS)]);
    try {
      await dropBenchDatabase(server, name, patience);
      if (!hadRole) await dropWorkerRole(server, patience);
    } catch (cause) {
      throw notDropped(name, cause);
    }
  };
  context.onEnd(drop);
  await ping(sql, context.interrupts.stop).catch((cause: unknown) => {
    throw cause instanceof QueueError ? notReachable(name, place, cause) : cause;
  });
  return { name, sql, drop };
}

/** Not cut short by a signal: then nobody would know whether it was made. */
async function create(server: Sql, name: string, user: string): Promise<void> {
  try {
    await createBenchDatabase(server, name);
  } catch (cause) {
    if (!(cause instanceof NotAllowedError)) throw cause;
    throw new CliError({
      code: "CANNOT_CREATE_DATABASE",
      what: `Role ${user} may not create a database on this server`,
      why: "The measurement runs in a database of its own, so that your queue is not touched",
      fix: `As an administrator: alter role "${user}" createdb; or give the --database-url of a role that may`,
      cause,
    });
  }
}

function notReachable(name: string, place: string, cause: QueueError): CliError {
  return new CliError({
    code: "BENCH_DATABASE_UNREACHABLE",
    what: `${name} was made for the measurement beside ${place}, and can't be reached`,
    why: `${cause.message}\nA pooler in between may let nobody into a database that it was not told of`,
    fix: "Give the address of the server itself with --database-url (Supabase: the direct connection, port 5432)",
    exitCode: EXIT.database,
    cause,
  });
}

function notDropped(name: string, cause: unknown): CliError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new CliError({
    code: "BENCH_DATABASE_LEFT",
    what: `${name}, which was made for the measurement, could not be dropped`,
    why: isOccupied(cause)
      ? "Somebody has a session in it that this role may not end; poolers keep such for a while"
      : why,
    fix: `Later, or as a superuser: drop database ${name} with (force)\nA run of millrace bench does it too, once it is an hour old and nobody is in it`,
    cause,
  });
}

/** Drops what measurements left behind that were cut short; answers their names. What can't be dropped is told and left. */
export async function removeLeftovers(
  { terminal, isJson }: CliContext,
  server: Sql,
): Promise<string[]> {
  const removed: string[] = [];
  for (const name of await leftBenchDatabases(server)) {
    try {
      await dropIdleBenchDatabase(server, name);
      removed.push(name);
    } catch (error) {
      if (!(error instanceof QueueError)) throw error;
      if (!isJson)
        terminal.say(`${name} of an earlier measurement can't be dropped: ${error.message}`);
    }
  }
  return removed;
}

import { InvalidOptionError } from "../core/errors.ts";
import { raceSignal } from "../core/signals.ts";
import { fromPg, inPgTransaction, type PgPool } from "./pg.ts";
import type { PgQueryable } from "./pg-connection.ts";
import {
  fromPostgresJs,
  type PostgresJsClient,
  type PostgresJsHandle,
  query,
} from "./postgres-js-handle.ts";
import { retrying } from "./retrying.ts";
import type { Queryable, Sql, SqlParam, SqlRow } from "./sql.ts";
import { translateError } from "./sqlstate.ts";

/**
 * A database as this library takes it: its own `Sql` port, a postgres.js client, or a node-postgres pool. Statements that lose a race
 * are sent again.
 *
 * Throws InvalidOptionError for anything else.
 */
export function toSql(handle: unknown): Sql {
  return retrying(toPort(handle));
}

function toPort(handle: unknown): Sql {
  if (has(handle, "query", "transaction", "close")) return handle as unknown as Sql;
  if (has(handle, "unsafe", "begin", "listen")) {
    return fromPostgresJs(handle as unknown as PostgresJsClient);
  }
  if (has(handle, "query", "connect", "on")) return fromPg(handle as unknown as PgPool);
  throw new InvalidOptionError(
    "sql",
    "it must be a connection from this library, a postgres.js client or a node-postgres pool",
  );
}

/**
 * An open transaction of whatever driver or ORM, told by its shape: postgres.js, node-postgres, Drizzle over either, Kysely,
 * Prisma, or this library's own.
 *
 * Throws InvalidOptionError for anything else, and for a pool or client that is no transaction: work on it could not be rolled back.
 */
export function toQueryable(handle: unknown): Queryable {
  if (isPool(handle)) {
    throw new InvalidOptionError("tx", "it is a connection, not a transaction", {
      hint: "Pass what the driver gives to the function of its begin() or transaction().",
    });
  }
  if (has(handle, "unsafe")) return inPostgresJs(handle as unknown as PostgresJsHandle);
  if (has(handle, "$queryRawUnsafe")) return inPrisma(handle as unknown as PrismaClient);
  if (has(handle, "executeQuery", "selectFrom")) return inKysely(handle as unknown as Kysely);
  const behindDrizzle = drizzleClient(handle);
  if (behindDrizzle) return toQueryable(behindDrizzle);
  if (has(handle, "query")) {
    // node-postgres' clients are event emitters; our own transactions are not.
    return has(handle, "on")
      ? inPgTransaction(handle as unknown as PgQueryable)
      : (handle as unknown as Queryable);
  }
  throw new InvalidOptionError(
    "tx",
    "it must be a transaction of postgres.js, node-postgres, Drizzle, Kysely, Prisma or this library",
  );
}

/** What begins transactions is none itself; a reserved connection of postgres.js begins them by statements. */
function isPool(handle: unknown): boolean {
  return (
    has(handle, "begin") ||
    has(handle, "query", "transaction") ||
    has(handle, "$transaction") ||
    typeof property(handle, "totalCount") === "number" ||
    property(handle, "isTransaction") === false
  );
}

function inPostgresJs(tx: PostgresJsHandle): Queryable {
  return { query: (text, params, options) => query(tx, "the database", text, params, options) };
}

interface PrismaClient {
  $queryRawUnsafe(text: string, ...params: SqlParam[]): Promise<SqlRow[]>;
}

function inPrisma(client: PrismaClient): Queryable {
  return translated((text, params) => client.$queryRawUnsafe(text, ...params));
}

interface Kysely {
  executeQuery(query: unknown): Promise<{ rows: SqlRow[] }>;
}

function inKysely(kysely: Kysely): Queryable {
  return translated(async (sql, parameters) => {
    // What Kysely's own CompiledQuery.raw makes.
    const query = { kind: "RawNode", sqlFragments: [sql], parameters: [] };
    const queryId = { queryId: crypto.randomUUID() };
    const { rows } = await kysely.executeQuery({ sql, parameters, query, queryId });
    return rows;
  });
}

function translated(
  run: (text: string, params: readonly SqlParam[]) => Promise<readonly SqlRow[]>,
): Queryable {
  return {
    async query(text, params = [], { signal } = {}) {
      signal?.throwIfAborted();
      try {
        return await raceSignal(run(text, params), signal);
      } catch (error) {
        throw translateError(error, "the database");
      }
    },
  };
}

/** Drizzle keeps the driver's client, or the driver's transaction, in its session. */
function drizzleClient(handle: unknown): unknown {
  const session = property(handle, "session") ?? property(property(handle, "_"), "session");
  return property(session, "client");
}

function has(handle: unknown, ...methods: readonly string[]): boolean {
  return methods.every((method) => typeof property(handle, method) === "function");
}

function property(object: unknown, key: string): unknown {
  if ((typeof object !== "object" && typeof object !== "function") || object === null)
    return undefined;
  return (object as Record<string, unknown>)[key];
}

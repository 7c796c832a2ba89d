import { access } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import type { InvalidOptionError } from "../core/errors.ts";
import { type Address, parseAddress, toUrl, withDatabase } from "../db/address.ts";
import { type ConnectOptions, connect } from "../db/postgres-js.ts";
import { checkSchema } from "../db/schema-version.ts";
import type { Sql } from "../db/sql.ts";
import { freePort } from "../embedded/free-port.ts";
import { type ResolvedDatabase, resolveDatabase } from "../embedded/resolve-database.ts";
import { CliError } from "./cli-error.ts";
import type { CliContext } from "./context.ts";
import { EXIT } from "./exit-codes.ts";

/** A database to work with. It is let go of when the command ends. */
export interface OpenDatabase {
  readonly sql: Sql;
  readonly source: "given" | "local";
  /** Holds the password: for programs that are to use it too. */
  readonly url: string;
  /** Where it is, fit for people: host and database, or the local folder. Never a password. */
  readonly place: string;
  /** Version of a local server, which we know without asking. */
  readonly version?: string;
  /** Connects to another database of the same server, as the same user. Whoever calls it closes it. */
  beside(name: string, options?: ConnectOptions): Sql;
}

export interface OpenOptions {
  /** What must be there: the queue in the version we know, or anything. @default "current" */
  readonly schema?: "current" | "any";
  /** Whether a local database may be made where none was before. @default false */
  readonly mayCreate?: boolean;
  /** The most connections. @default 2 */
  readonly max?: number;
  /** Port of the local server, if it has to be started. @default that of the last time, or any */
  readonly port?: number;
}

/** `--database-url`, else DATABASE_URL, else the local Postgres of this project. */
export async function openDatabase(
  context: CliContext,
  { schema = "current", mayCreate = false, max = 2, port }: OpenOptions = {},
): Promise<OpenDatabase> {
  const given = context.databaseUrl ?? context.env["DATABASE_URL"];
  const opened = given
    ? openGiven(context, given, max)
    : await openLocal(context, { mayCreate, max, port });
  if (schema === "current") await checkSchema(opened.sql);
  return opened;
}

function openGiven(context: CliContext, url: string, max: number): OpenDatabase {
  const address = readAddress(context, url);
  const sql = connect(url, { max, applicationName: "millrace cli" });
  context.onEnd(() => sql.close());
  const { host, database } = address;
  return {
    sql,
    // In a form that other programs understand too.
    url: toUrl(address),
    source: "given",
    place: database === undefined ? host : `${host}/${database}`,
    beside: besideOf(url),
  };
}

function besideOf(url: string): OpenDatabase["beside"] {
  return (name, options) => connect(withDatabase(url, name), options);
}

function readAddress({ databaseUrl }: CliContext, url: string): Address {
  try {
    return parseAddress(url);
  } catch (cause) {
    const { message, hint } = cause as InvalidOptionError;
    throw new CliError({
      code: "INVALID_URL",
      what: `${databaseUrl === undefined ? "DATABASE_URL" : "--database-url"} is not the URL of a Postgres database`,
      why: message.replace(/^.*? is invalid: /, ""),
      fix: hint ?? "It looks like postgres://user:password@host:5432/database",
      exitCode: EXIT.usage,
      cause,
    });
  }
}

async function openLocal(
  context: CliContext,
  { mayCreate, max, port }: { mayCreate: boolean; max: number; port: number | undefined },
): Promise<OpenDatabase> {
  const folder = await localFolder(context.cwd);
  if (!folder.exists && !mayCreate) {
    throw new CliError({
      code: "NO_DATABASE",
      what: "There is no database to look at",
      why: "Neither --database-url nor DATABASE_URL is set, and this project has no local database yet",
      fix: "Set DATABASE_URL, or make a local database with `millrace dev <app>` or `millrace migrate up`",
      exitCode: EXIT.database,
    });
  }
  const dataDir = join(folder.path, "postgres");
  const server = await startLocal(context, dataDir, port);
  context.onEnd(() => server.stop());
  context.terminal.hide([server.url]);
  const sql = connect(server.url, { max, applicationName: "millrace cli" });
  context.onEnd(() => sql.close());
  return {
    sql,
    url: server.url,
    source: "local",
    place: relative(context.cwd, dataDir) || dataDir,
    beside: besideOf(server.url),
    ...(server.version !== undefined && { version: server.version }),
  };
}

async function startLocal(
  { env }: CliContext,
  dataDir: string,
  port: number | undefined,
): Promise<ResolvedDatabase> {
  try {
    return await resolveDatabase(
      { ...env, DATABASE_URL: undefined },
      { dataDir, env, ...(port !== undefined && { port }) },
    );
  } catch (cause) {
    if (port === undefined || (await freePort(port)) === port) throw cause;
    throw new CliError({
      code: "PORT_IN_USE",
      what: `Port ${port} is in use`,
      why: "The local Postgres was to listen there",
      fix: "Give another --port, or none: then a free one is taken",
      exitCode: EXIT.database,
      cause,
    });
  }
}

/** `.millrace` with a database in it, here or in a folder above, so that a second terminal finds it from anywhere in the project. */
async function localFolder(cwd: string): Promise<{ path: string; exists: boolean }> {
  for (let folder = cwd; ; folder = dirname(folder)) {
    const path = join(folder, ".millrace");
    if (await exists(join(path, "postgres"))) return { path, exists: true };
    if (folder === dirname(folder)) return { path: join(cwd, ".millrace"), exists: false };
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

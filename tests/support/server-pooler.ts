import { setTimeout as delay } from "node:timers/promises";
import { connect, withDatabaseName } from "./connect.ts";
import { launchPgBouncer } from "./pgbouncer.ts";
import { SUPERUSER } from "./prepare-cluster.ts";
import type { TestServer } from "./server.ts";

/** PgBouncer in front of every database of a cluster; plain data, so that it can be handed to another process. */
export interface ServerPooler {
  readonly port: number;
}

/** A pooler that this process started and must stop. */
export interface OwnServerPooler extends ServerPooler {
  stop(): Promise<void>;
}

/**
 * Starts PgBouncer in transaction mode for all databases and login roles of a cluster, also those that are made later. Its
 * connections are served in turn, so that two transactions of one client rarely meet the same session.
 */
export async function startServerPooler(server: TestServer): Promise<OwnServerPooler> {
  const { port, password } = new URL(server.superUrl);
  return launchPgBouncer({
    database: `* = host=127.0.0.1 port=${port}`,
    users: [SUPERUSER],
    password,
    settings: {
      auth_user: SUPERUSER,
      auth_query: "select usename, passwd from pg_catalog.pg_shadow where usename = $1",
      admin_users: SUPERUSER,
      default_pool_size: 12,
      server_round_robin: 1,
    },
  });
}

/** The same URL through the pooler, marked as such the way Prisma marks it. */
export function throughPooler(pooler: ServerPooler, url: string): string {
  const changed = new URL(url);
  changed.port = String(pooler.port);
  changed.searchParams.set("pgbouncer", "true");
  return changed.href;
}

/**
 * Closes the pooler's connections to a database that is about to be dropped; answers which clients were still there. A client needs
 * a moment to leave, like a session.
 */
export async function leavePooler(
  pooler: ServerPooler,
  server: TestServer,
  database: string,
): Promise<string[]> {
  const console = connect(throughPooler(pooler, withDatabaseName(server.superUrl, "pgbouncer")), {
    max: 1,
    fetch_types: false,
  });
  try {
    const deadline = Date.now() + 2_000;
    for (;;) {
      // The console speaks the simple protocol alone.
      const clients = await console.unsafe("show clients").simple();
      const left = clients.filter((client) => client["database"] === database);
      if (left.length === 0 || Date.now() > deadline) {
        await console.unsafe(`kill ${database}`).simple();
        return left.map((client) => `${client["user"]} through the pooler (${client["state"]})`);
      }
      await delay(20);
    }
  } finally {
    await console.end();
  }
}

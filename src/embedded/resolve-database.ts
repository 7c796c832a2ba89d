import type { Environment } from "./run-program.ts";
import { type LocalPostgresOptions, startLocalPostgres } from "./start-local-postgres.ts";

/** The database to work with, and how to let go of it. */
export interface ResolvedDatabase {
  readonly url: string;
  /** `given` by DATABASE_URL, or a `local` server. */
  readonly source: "given" | "local";
  /** Version of a local server. */
  readonly version?: string;
  /** Stops the local server if nobody else uses it; does nothing to a given one. */
  stop(): Promise<void>;
}

/**
 * DATABASE_URL wins; else a local server is started from the embedded programs, else from those of
 * the system. Rejects with a LocalPostgresError when there is no way.
 */
export async function resolveDatabase(
  env: Environment,
  options: LocalPostgresOptions,
): Promise<ResolvedDatabase> {
  const given = env["DATABASE_URL"];
  if (given !== undefined && given !== "") {
    return { url: given, source: "given", stop: async () => {} };
  }
  const server = await startLocalPostgres({ env, ...options });
  return {
    url: server.url,
    source: "local",
    version: server.version,
    stop: () => server.stop(),
  };
}

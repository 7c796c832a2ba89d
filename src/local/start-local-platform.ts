import { join } from "node:path";
import { installLocalPlatform, removeVaultSecret, setVaultSecret } from "../db/local-platform.ts";
import type { Sql } from "../db/sql.ts";
import { findDeno } from "./deno.ts";
import { type Environment, functionEnvironment } from "./environment.ts";
import type { FunctionEvent } from "./function-host.ts";
import { type FunctionsServer, startFunctionsServer } from "./functions-server.ts";
import { type LocalKeys, localKeys } from "./keys.ts";
import { startNetPump } from "./net-pump.ts";

export interface LocalPlatformOptions {
  /** The folder that holds `supabase/functions/`. */
  readonly projectDir: string;
  /** Where the keys are kept. @default `.millrace` in it */
  readonly stateDir?: string;
  /** A migrated database, as the role that applied the migrations. */
  readonly sql: Sql;
  /** The same database for functions. */
  readonly databaseUrl: string;
  /**
   * Whether to make stand-ins of pg_net and Vault in it, to send what is left there, and to set the doorbell's secrets. Only for a database
   * of this machine.
   */
  readonly hasStandIns: boolean;
  /** The machine's environment, of which functions get what Deno needs. */
  readonly env: Environment;
  /** The port of functions, this and no other. @default 54321 if it is free, else any */
  readonly port?: number | undefined;
  readonly preferredPort?: number;
  /** Told the keys before anything runs that could print them. */
  readonly onKeys?: (keys: LocalKeys) => void;
  readonly onEvent?: (event: FunctionEvent) => void;
  /** Told when the database could not be asked for requests; the pump goes on. */
  readonly onPumpError?: (error: unknown) => void;
  /** How long requests and background work of functions may go on at the end. @default 5_000 */
  readonly graceMs?: number;
}

/** Functions that are served, and a database that rings their doorbell. */
export interface LocalPlatformHandle {
  readonly server: FunctionsServer;
  readonly keys: LocalKeys;
  /** Whether the database rings: there is a function `queue-worker`, and stand-ins that know where. */
  readonly hasDoorbell: boolean;
  /** Ends functions and pump and takes the doorbell's address away. Twice is fine. */
  stop(options?: { isForced?: boolean }): Promise<void>;
}

/** The function that the doorbell rings. */
export const QUEUE_WORKER = "queue-worker";

/**
 * All that Supabase brings and a laptop lacks, around a database that is there: keys, functions under Deno, and where it is wanted
 * pg_net and Vault. Rejects with a LocalPlatformError.
 */
export async function startLocalPlatform(
  options: LocalPlatformOptions,
): Promise<LocalPlatformHandle> {
  const { projectDir, sql, env } = options;
  const deno = await findDeno({ projectDir, env });
  const keys = await localKeys(options.stateDir ?? join(projectDir, ".millrace"));
  options.onKeys?.(keys);
  const server = await startFunctionsServer({ ...options, deno, keys });
  const ending = new AbortController();
  try {
    const hasWorker = (await server.names()).includes(QUEUE_WORKER);
    const bell = options.hasStandIns
      ? await connectDoorbell(options, { keys, server, hasWorker, signal: ending.signal })
      : undefined;
    if (hasWorker) void server.warm(QUEUE_WORKER);
    return {
      server,
      keys,
      hasDoorbell: hasWorker && bell !== undefined,
      async stop(how) {
        const isFirst = !ending.signal.aborted;
        ending.abort();
        await bell?.ended;
        if (isFirst && bell?.url !== undefined) {
          await removeVaultSecret(sql, "queue_worker_url", bell.url).catch(() => undefined);
        }
        await server.stop(how);
      },
    };
  } catch (error) {
    ending.abort();
    await server.stop({ isForced: true });
    throw error;
  }
}

interface Doorbell {
  readonly ended: Promise<void>;
  /** What was put into Vault; undefined when there is nobody to ring, or Vault is not ours to write. */
  readonly url: string | undefined;
}

async function connectDoorbell(
  options: LocalPlatformOptions,
  to: {
    readonly keys: LocalKeys;
    readonly server: FunctionsServer;
    readonly hasWorker: boolean;
    readonly signal: AbortSignal;
  },
): Promise<Doorbell | undefined> {
  const { sql, onPumpError, projectDir } = options;
  const { net, vault } = await installLocalPlatform(sql);
  if (net !== "stand-in" || vault !== "stand-in") return undefined;
  const url = to.hasWorker ? `${to.server.functionsUrl}/${QUEUE_WORKER}` : undefined;
  if (url !== undefined) {
    const functionsDir = join(projectDir, "supabase", "functions");
    const { variables } = await functionEnvironment({
      ...options,
      functionsDir,
      functionDir: join(functionsDir, QUEUE_WORKER),
      url: to.server.url,
      keys: to.keys,
    });
    // A token of one's own in `.env` counts; while it is changed there are two, the new one first.
    const [token = to.keys.workerToken] = (variables["QUEUE_WORKER_TOKEN"] ?? "")
      .split(",")
      .map((one) => one.trim())
      .filter((one) => one !== "");
    await setVaultSecret(sql, "queue_worker_url", url);
    await setVaultSecret(sql, "queue_worker_token", token);
  }
  const pump = await startNetPump({
    sql,
    signal: to.signal,
    ...(onPumpError && { onError: onPumpError }),
  });
  return { ended: pump.ended, url };
}

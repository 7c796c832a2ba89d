import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseEnv } from "node:util";
import type { LocalKeys } from "./keys.ts";

/** Environment variables as a plain record; this room never reads `process.env` itself. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** What Deno itself needs of the machine's environment: programs, caches, registries, certificates, proxies. */
const PASSED_ON =
  /^(?:PATH|HOME|USERPROFILE|LOCALAPPDATA|SystemRoot|TEMP|TMP|TMPDIR|LANG|TZ|DENO_(?:DIR|CERT|TLS_CA_STORE|AUTH_TOKENS)|JSR_URL|XDG_CACHE_HOME|npm_config_registry|(?:https?|no|all)_proxy|SSL_CERT_(?:FILE|DIR)|NODE_EXTRA_CA_CERTS)$/i;

/** Nobody ends processes here as Supabase ends isolates: a worker that took itself for one would begin nothing after two minutes. */
const LIFE_SECONDS = "86400";

export interface FunctionEnvironment {
  readonly variables: Readonly<Record<string, string>>;
  /** Names of a `.env` file that Supabase would not take, because it sets them itself. */
  readonly refused: readonly string[];
}

export interface EnvironmentFacts {
  readonly functionsDir: string;
  /** Folder of the function; without it, what all functions have. */
  readonly functionDir?: string;
  /** Where `/functions/v1/` is served. */
  readonly url: string;
  readonly databaseUrl: string;
  readonly keys: LocalKeys;
  /** The machine's. */
  readonly env: Environment;
}

/**
 * The environment of a function: what Supabase sets, our own secrets, `supabase/functions/.env`, then the function's own `.env`; later
 * ones win. Of the machine's environment only what Deno needs, so that nothing works here by a variable that is not deployed.
 */
export async function functionEnvironment(facts: EnvironmentFacts): Promise<FunctionEnvironment> {
  const { functionsDir, functionDir, url, databaseUrl, keys, env } = facts;
  const given: Record<string, string> = {};
  for (const folder of [functionsDir, functionDir]) {
    if (folder !== undefined) Object.assign(given, await readEnvFile(join(folder, ".env")));
  }
  const refused = Object.keys(given).filter((name) => name.startsWith("SUPABASE_"));
  for (const name of refused) delete given[name];
  return {
    variables: {
      ...ofMachine(env),
      DENO_NO_UPDATE_CHECK: "1",
      DENO_NO_PROMPT: "1",
      DENO_NO_PACKAGE_JSON: "1",
      NO_COLOR: "1",
      QUEUE_WORKER_TOKEN: keys.workerToken,
      QUEUE_SIGNING_SECRETS: keys.signingSecret,
      QUEUE_CALLBACK_SECRET: keys.callbackSecret,
      QUEUE_LIFE_SECONDS: LIFE_SECONDS,
      ...given,
      SUPABASE_URL: url,
      SUPABASE_DB_URL: databaseUrl,
      SUPABASE_ANON_KEY: keys.anonKey,
      SUPABASE_SERVICE_ROLE_KEY: keys.serviceRoleKey,
      SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishableKey }),
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secretKey }),
    },
    refused,
  };
}

function ofMachine(env: Environment): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && PASSED_ON.test(name)) kept[name] = value;
  }
  return kept;
}

async function readEnvFile(path: string): Promise<Record<string, string>> {
  const text = await readFile(path, "utf8").catch(() => "");
  const values: Record<string, string> = {};
  for (const [name, value] of Object.entries(parseEnv(text))) {
    if (value !== undefined) values[name] = value;
  }
  return values;
}

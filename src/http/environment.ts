import { InvalidOptionError } from "../core/errors.ts";
import type { QueueWorkerOptions } from "./queue-worker.ts";
import { type Environment, EnvironmentError, listOf, serviceKeysOf } from "./sender-access.ts";

/** What the environment of an Edge Function says: the database's address, and options of the worker. */
export interface EdgeEnvironment {
  readonly databaseUrl: string;
  readonly options: Pick<
    QueueWorkerOptions,
    | "keys"
    | "callback"
    | "functionsUrl"
    | "functionHeaders"
    | "signingSecrets"
    | "lifeMs"
    | "name"
    | "env"
  >;
}

/**
 * Reads what Supabase sets (SUPABASE_URL, SUPABASE_DB_URL, SUPABASE_SERVICE_ROLE_KEY, SUPABASE_SECRET_KEYS, SB_EXECUTION_ID) and what is
 * set for us: QUEUE_WORKER_TOKEN, QUEUE_DB_URL, QUEUE_SIGNING_SECRETS, QUEUE_CALLBACK_SECRET, QUEUE_LIFE_SECONDS. Lists are divided by
 * commas: two values are valid at a time while one is changed. Throws InvalidOptionError for what is missing, and EnvironmentError for what makes no sense.
 */
export function readEdgeEnvironment(env: Environment): EdgeEnvironment {
  const databaseUrl = env("QUEUE_DB_URL") || env("SUPABASE_DB_URL");
  if (!databaseUrl) {
    throw new InvalidOptionError("SUPABASE_DB_URL", "it is not set", {
      hint: "Supabase sets it in Edge Functions; elsewhere set QUEUE_DB_URL.",
    });
  }
  const projectUrl = env("SUPABASE_URL")?.replace(/\/+$/, "");
  const { serviceTokens, secretKeys } = serviceKeysOf(env);
  // The service's own key is a secret that there is anyway; a token made with it tells nothing of it.
  const ownSecrets = listOf(env("QUEUE_CALLBACK_SECRET"));
  const callbackSecrets = ownSecrets.length > 0 ? ownSecrets : [...serviceTokens, ...secretKeys];
  const life = env("QUEUE_LIFE_SECONDS");
  const name = env("SB_EXECUTION_ID");
  return {
    databaseUrl,
    options: {
      env,
      keys: { serviceTokens, secretKeys, doorbellTokens: listOf(env("QUEUE_WORKER_TOKEN")) },
      signingSecrets: listOf(env("QUEUE_SIGNING_SECRETS")),
      functionHeaders: credentialsOf(serviceTokens[0], secretKeys[0]),
      ...(projectUrl && { functionsUrl: `${projectUrl}/functions/v1` }),
      ...(projectUrl &&
        callbackSecrets.length > 0 && {
          callback: {
            url: `${projectUrl}/functions/v1/queue-worker?action=report`,
            secrets: callbackSecrets,
          },
        }),
      ...(life && { lifeMs: lifeOf(life) }),
      ...(name && { name }),
    },
  };
}

/** A JWT goes as Bearer token, a secret key in the header `apikey`: functions of either kind of project understand one of them. */
function credentialsOf(
  serviceKey: string | undefined,
  secretKey: string | undefined,
): Readonly<Record<string, string>> {
  const apiKey = secretKey ?? serviceKey;
  const isToken = serviceKey !== undefined && !serviceKey.startsWith("sb_secret_");
  return {
    ...(isToken && { authorization: `Bearer ${serviceKey}` }),
    ...(apiKey !== undefined && { apikey: apiKey }),
  };
}

function lifeOf(text: string): number {
  const seconds = Number(text);
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= 86_400) return seconds * 1_000;
  throw new EnvironmentError("QUEUE_LIFE_SECONDS cannot be read", {
    hint: "It is a whole number of seconds, at most a day.",
  });
}

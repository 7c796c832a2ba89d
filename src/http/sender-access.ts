import { QueueError } from "../core/errors.ts";
import type { SenderAccess } from "./received-job.ts";
import type { ServiceKeys } from "./service-access.ts";

/** Reads one variable; undefined when it is not set. */
export type Environment = (name: string) => string | undefined;

/** A variable of the environment is set to something that makes no sense. The message names it and not its value. */
export class EnvironmentError extends QueueError {
  override readonly name = "EnvironmentError";
  readonly code = "INVALID_ENVIRONMENT";
}

/**
 * Who may send jobs to a function on Supabase: whoever signs with one of QUEUE_SIGNING_SECRETS; where that is not set, whoever has a key of
 * the service (SUPABASE_SERVICE_ROLE_KEY, SUPABASE_SECRET_KEYS, SUPABASE_SECRET_KEY).
 */
export function senderAccessOf(environment: Environment): Required<SenderAccess> {
  return {
    signingSecrets: listOf(environment("QUEUE_SIGNING_SECRETS")),
    keys: serviceKeysOf(environment),
  };
}

/** The keys of the service that Supabase sets. Throws EnvironmentError. */
export function serviceKeysOf(
  environment: Environment,
): Pick<ServiceKeys, "serviceTokens" | "secretKeys"> {
  const serviceTokens = listOf(environment("SUPABASE_SERVICE_ROLE_KEY"));
  return {
    serviceTokens,
    secretKeys: [
      ...namedKeys(environment("SUPABASE_SECRET_KEYS")),
      ...listOf(environment("SUPABASE_SECRET_KEY")),
      // Self-hosted projects may have a secret key in the place of the JWT.
      ...serviceTokens.filter((key) => key.startsWith("sb_secret_")),
    ],
  };
}

/** Values with commas between them: two are set while one is being changed for the other. */
export function listOf(text = ""): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** Supabase sets a JSON object of names and keys. */
function namedKeys(text: string | undefined): string[] {
  if (text === undefined || text.trim() === "") return [];
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) {
    return Object.values(parsed).filter((key) => typeof key === "string" && key !== "");
  }
  throw new EnvironmentError("SUPABASE_SECRET_KEYS cannot be read", {
    hint: "It is a JSON object of names and keys; Supabase sets it.",
  });
}

import { equalSecrets } from "./equal-secrets.ts";
import { type Problem, problemResponse } from "./problem.ts";

/** Who may call a worker over HTTP. Two of each kind may be valid at a time, so that a key can be changed without a gap. */
export interface ServiceKeys {
  /** Bearer tokens of the service: the legacy `service_role` JWT, as `SUPABASE_SERVICE_ROLE_KEY` has it. */
  readonly serviceTokens: readonly string[];
  /** `sb_secret_…` keys, sent in the header `apikey`. */
  readonly secretKeys: readonly string[];
  /** Tokens that can only wake the worker, sent as Bearer: what pg_cron and pg_net send is readable in the database. */
  readonly doorbellTokens: readonly string[];
}

/** What a caller may do: `service` everything, `doorbell` only let the worker work. */
export type Caller = "service" | "doorbell";

/** What a call without a valid key is told. */
export const UNAUTHORIZED: Problem = {
  status: 401,
  code: "UNAUTHORIZED",
  title: "This call needs a key of the service",
  detail: "Send the service role key as Bearer token, or a secret key in the header apikey.",
  headers: { "www-authenticate": "Bearer" },
};

/** Reads who calls. A wrong credential is refused even beside a right one: it is a mistake somewhere. */
export async function callerOf(request: Request, keys: ServiceKeys): Promise<Caller | undefined> {
  const bearer = /^Bearer +(\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  const apiKey = request.headers.get("apikey") ?? undefined;
  if (request.headers.has("authorization") && bearer === undefined) return undefined;

  const isSecret = apiKey !== undefined && (await isOneOf(apiKey, keys.secretKeys));
  // supabase-js sends the legacy key in both places.
  const isKnownKey =
    apiKey === undefined || isSecret || (await isOneOf(apiKey, keys.serviceTokens));
  if (!isKnownKey) return undefined;
  if (bearer === undefined) return isSecret ? "service" : undefined;
  if (await isOneOf(bearer, keys.serviceTokens)) return "service";
  if (isSecret && bearer === apiKey) return "service";
  return (await isOneOf(bearer, keys.doorbellTokens)) ? "doorbell" : undefined;
}

/** The answer to a call without a valid key. */
export function unauthorized(): Response {
  return problemResponse(UNAUTHORIZED);
}

/** Compares with all of them, whichever fits: how long it takes tells nothing. An empty key fits nothing. */
async function isOneOf(given: string, known: readonly string[]): Promise<boolean> {
  const fits = await Promise.all(
    known.map(async (key) => key !== "" && (await equalSecrets(given, key))),
  );
  return fits.includes(true);
}

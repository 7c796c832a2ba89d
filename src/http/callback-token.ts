import type { Claim } from "../core/handler.ts";
import { equalSecrets } from "./equal-secrets.ts";

const encoder = new TextEncoder();

/**
 * The right to report on one attempt at one job: its number, its lease's, and an HMAC-SHA256 of both. It ends with the lease, so it
 * carries no time of its own.
 */
export async function callbackToken({ jobId, leaseId }: Claim, secret: string): Promise<string> {
  return `${jobId}.${leaseId}.${await macOf(jobId, leaseId, secret)}`;
}

/** The attempt that a token was made for with one of the secrets; undefined when it was not. */
export async function readCallbackToken(
  token: string,
  secrets: readonly string[],
): Promise<Claim | undefined> {
  const [, jobId, leaseId, mac] = /^(\d{1,19})\.(\d{1,19})\.([\w-]{43})$/.exec(token) ?? [];
  if (!jobId || !leaseId || !mac) return undefined;
  const fits = await Promise.all(
    secrets.map(async (secret) => equalSecrets(mac, await macOf(jobId, leaseId, secret))),
  );
  return fits.includes(true) ? { jobId, leaseId } : undefined;
}

async function macOf(jobId: string, leaseId: string, secret: string): Promise<string> {
  const key = await crypto.subtle.importKey(
    "raw",
    encoder.encode(secret),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  const content = encoder.encode(`millrace.callback.${jobId}.${leaseId}`);
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, content));
  return btoa(String.fromCharCode(...mac))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

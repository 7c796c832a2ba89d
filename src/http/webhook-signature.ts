import { QueueError } from "../core/errors.ts";
import { equalSecrets } from "./equal-secrets.ts";

/** A signing secret is not one: `whsec_` and base64 of 24 to 64 bytes. */
export class InvalidSigningSecretError extends QueueError {
  override readonly name = "InvalidSigningSecretError";
  readonly code = "INVALID_SIGNING_SECRET";
}

/** The three headers of a signed message, as Standard Webhooks names them (standardwebhooks.com, specification 1.0.0). */
export interface SignatureHeaders {
  readonly "webhook-id": string;
  readonly "webhook-timestamp": string;
  readonly "webhook-signature": string;
}

const PREFIX = "whsec_";
const encoder = new TextEncoder();

/** Signs a message with each of the secrets: while a secret is being changed, receivers of either can check it. */
export async function signWebhook(
  message: { readonly id: string; readonly body: string; readonly sentAt: Date },
  secrets: readonly string[],
): Promise<SignatureHeaders> {
  const timestamp = String(Math.floor(message.sentAt.getTime() / 1_000));
  const content = `${message.id}.${timestamp}.${message.body}`;
  const signatures = await Promise.all(secrets.map((secret) => signatureOf(content, secret)));
  return {
    "webhook-id": message.id,
    "webhook-timestamp": timestamp,
    "webhook-signature": signatures.join(" "),
  };
}

/** How far a message's time may be from the receiver's, either way. */
const TOLERANCE_MS = 5 * 60_000;

/** Whether a message was signed with one of the secrets not long ago. `now` in milliseconds since 1970. */
export async function isSignedWebhook(
  headers: Headers,
  body: string,
  secrets: readonly string[],
  now: number,
): Promise<boolean> {
  const [id, timestamp, signatures] = [
    headers.get("webhook-id"),
    headers.get("webhook-timestamp"),
    headers.get("webhook-signature"),
  ];
  if (!id || !signatures || !timestamp || !/^\d{1,12}$/.test(timestamp)) return false;
  if (Math.abs(now - Number(timestamp) * 1_000) > TOLERANCE_MS) return false;
  const content = `${id}.${timestamp}.${body}`;
  const expected = await Promise.all(secrets.map((secret) => signatureOf(content, secret)));
  const given = signatures.split(" ").slice(0, 16);
  const fits = await Promise.all(
    given.flatMap((one) => expected.map((other) => equalSecrets(one, other))),
  );
  return fits.includes(true);
}

async function signatureOf(content: string, secret: string): Promise<string> {
  const key = await crypto.subtle.importKey(
    "raw",
    bytesOf(secret),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  const signature = new Uint8Array(await crypto.subtle.sign("HMAC", key, encoder.encode(content)));
  return `v1,${btoa(String.fromCharCode(...signature))}`;
}

/** Throws InvalidSigningSecretError unless the secret is one. */
export function checkSigningSecret(secret: string): void {
  bytesOf(secret);
}

function bytesOf(secret: string): BufferSource {
  const fault = (cause?: unknown): InvalidSigningSecretError =>
    new InvalidSigningSecretError("The signing secret cannot be read", {
      cause,
      hint: "It is whsec_ and the base64 of 24 to 64 random bytes.",
    });
  if (!secret.startsWith(PREFIX)) throw fault();
  let text: string;
  try {
    text = atob(secret.slice(PREFIX.length));
  } catch (cause) {
    throw fault(cause);
  }
  if (text.length < 24 || text.length > 64) throw fault();
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

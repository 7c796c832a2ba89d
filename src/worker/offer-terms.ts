import type { OfferTerms } from "../db/worker-functions.ts";
import type { WorkerSettings } from "./options.ts";

/** How long a worker has to accept a job that is brought to it; then the job goes to whoever asks. */
export const OFFER_MS = 2_000;

/** On which terms a worker takes jobs without asking; null for one that does not listen, or has to choose among them. */
export function offerTerms(settings: WorkerSettings): OfferTerms | null {
  const { listen, tenantId, perTenant, fits, leaseMs } = settings;
  if (!listen || tenantId !== null || perTenant !== undefined || fits) return null;
  const secret = crypto.getRandomValues(new Uint8Array(16));
  const digits = [...secret].map((byte) => byte.toString(16).padStart(2, "0"));
  return { channel: `millrace_${digits.join("")}`, offerMs: Math.min(OFFER_MS, leaseMs) };
}

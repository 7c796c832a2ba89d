import { type JobCall, Refused } from "millrace/functions";
import { environment } from "./runtime.ts";
import { Upstream } from "./upstream.ts";

/** Where a function puts what it has found: an address of yours that takes JSON by POST. */
export interface Sink {
  /** Whether there is one. */
  readonly isSet: boolean;
  /** Stores one page. The same page of the same job has the same key, so the receiver can tell a repetition. */
  store(page: Readonly<Record<string, unknown>>): Promise<void>;
}

/** The sink that the variable `<prefix>_SINK_URL` names; with `<prefix>_SINK_TOKEN`, where that is set, as Bearer. */
export function sinkOf(
  prefix: string,
  { job, signal }: Pick<JobCall<unknown>, "job" | "signal">,
): Sink {
  const url = environment(`${prefix}_SINK_URL`);
  if (url === undefined) return { isSet: false, store: () => Promise.resolve() };
  if (!URL.canParse(url)) throw new Refused(`${prefix}_SINK_URL is not a URL`);
  const { origin, pathname, search } = new URL(url);
  const upstream = new Upstream({
    name: `The sink ${prefix}_SINK_URL`,
    baseUrl: origin,
    tokenName: `${prefix}_SINK_TOKEN`,
    isTokenOptional: true,
    idempotencyKey: job.idempotencyKey,
    signal,
  });
  return {
    isSet: true,
    async store(page) {
      const body = { job_id: job.id, job_type: job.type, tenant_id: job.tenantId, ...page };
      const key = `${job.idempotencyKey}_${await digest(JSON.stringify(page))}`;
      await upstream.call(`${pathname}${search}`, { body, headers: { "idempotency-key": key } });
    },
  };
}

/** Says what is in a page: where a repeated run finds other items, they must not pass for those that were stored. */
async function digest(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(hash, 0, 12)]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

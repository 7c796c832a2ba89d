// The jobs of a backlog, the same for all peers.

import type { Backlog, JobSpec } from "./protocol.ts";

/** Roughly what `{"n":123456,"pad":""}` takes. */
const FRAME_BYTES = 21;

/** The jobs in chunks of one call each. Made outside of the measured time. */
export function* backlogChunks(backlog: Backlog): Generator<readonly JobSpec[]> {
  const { jobs, chunk = 10_000, from = 0 } = backlog;
  const { tenants = 0 } = backlog;
  const tenantOf = tenants === 0 ? undefined : zipf(tenants);
  const lonely = tenants > 1 ? jobs - 1 : -1;
  for (let made = 0; made < jobs; made += chunk) {
    const count = Math.min(chunk, jobs - made);
    yield Array.from({ length: count }, (_, i): JobSpec => {
      const n = from + made + i;
      return {
        payload: toPayload(backlog, n),
        ...(backlog.delaySeconds !== undefined && { delaySeconds: backlog.delaySeconds }),
        ...(backlog.isLow && { isLow: true }),
        ...(tenantOf && { tenant: made + i === lonely ? LONELY : `tenant-${tenantOf(n)}` }),
      };
    });
  }
}

/** The tenant with a single job, enqueued last. */
export const LONELY = "lonely";

function toPayload({ isBystander, payloadBytes }: Backlog, n: number): JobSpec["payload"] {
  if (payloadBytes === undefined) return { n: isBystander ? -1 : n };
  const length = Math.max(0, payloadBytes - FRAME_BYTES);
  return { n, pad: `${n}-`.repeat(Math.ceil(length / 2)).slice(0, length) };
}

/** Answers a tenant for each number: tenant k with a share of 1/k, the same at every call. */
function zipf(tenants: number): (n: number) => number {
  const bounds: number[] = [];
  let sum = 0;
  for (let k = 1; k <= tenants; k++) {
    sum += 1 / k;
    bounds.push(sum);
  }
  return (n) => {
    // A multiplicative hash spreads the numbers evenly over [0, 1).
    const point = ((Math.imul(n + 1, 0x9e3779b1) >>> 0) / 2 ** 32) * sum;
    let low = 0;
    let high = tenants - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((bounds[middle] ?? sum) > point) high = middle;
      else low = middle + 1;
    }
    return low + 1;
  };
}

// The loads there are, in the order they run.

import { besideFuture, besideLow } from "./beside.ts";
import { drain, drain1k, drainAnalyzed } from "./drain.ts";
import { enqueueBulk } from "./enqueue-bulk.ts";
import { enqueueOne } from "./enqueue-one.ts";
import { failing } from "./failing.ts";
import { idle } from "./idle.ts";
import { latency, latencyHalfLoad } from "./latency.ts";
import type { Load } from "./load.ts";
import { oldSnapshot } from "./old-snapshot.ts";
import { slow10ms } from "./slow.ts";
import { soak10 } from "./soak.ts";
import { tenants } from "./tenants.ts";

export const knownLoads: readonly Load[] = [
  enqueueOne,
  enqueueBulk,
  drain,
  drainAnalyzed,
  drain1k,
  latency,
  latencyHalfLoad,
  oldSnapshot,
  besideFuture,
  besideLow,
  tenants,
  slow10ms,
  failing,
  soak10,
  idle,
];

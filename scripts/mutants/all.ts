import { ACCESS_MUTANTS } from "./access.ts";
import { ARRIVAL_MUTANTS } from "./arrivals.ts";
import { CLAIM_MUTANTS } from "./claim.ts";
import { CONNECTION_MUTANTS } from "./connections.ts";
import { DOORBELL_MUTANTS } from "./doorbell.ts";
import { EDGE_MUTANTS } from "./edge.ts";
import { ENQUEUE_MUTANTS } from "./enqueue.ts";
import { FLOW_MUTANTS } from "./flows.ts";
import { IDENTITY_MUTANTS } from "./identity.ts";
import { LOCK_MUTANTS } from "./locks.ts";
import { MAINTENANCE_MUTANTS } from "./maintenance.ts";
import { MEETING_MUTANTS } from "./meetings.ts";
import type { Mutant } from "./mutant.ts";
import { OFFER_MUTANTS } from "./offers.ts";
import { SETTLE_MUTANTS } from "./settle.ts";
import { TYPESCRIPT_MUTANTS } from "./typescript.ts";
import { UPKEEP_MUTANTS } from "./upkeep.ts";

/** All planted bugs, in the order of docs/testing.md. */
export const MUTANTS: readonly Mutant[] = [
  ...CLAIM_MUTANTS,
  ...IDENTITY_MUTANTS,
  ...SETTLE_MUTANTS,
  ...LOCK_MUTANTS,
  ...FLOW_MUTANTS,
  ...UPKEEP_MUTANTS,
  ...MAINTENANCE_MUTANTS,
  ...ENQUEUE_MUTANTS,
  ...ARRIVAL_MUTANTS,
  ...OFFER_MUTANTS,
  ...ACCESS_MUTANTS,
  ...DOORBELL_MUTANTS,
  ...EDGE_MUTANTS,
  ...TYPESCRIPT_MUTANTS,
  ...CONNECTION_MUTANTS,
  ...MEETING_MUTANTS,
];

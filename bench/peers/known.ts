// The peers there are, and what each can do.

/** What a load may need of a peer. */
export type Ability =
  | "wake"
  | "future"
  | "priority"
  | "retry"
  | "async"
  | "tenants"
  | "postgres"
  | "drain"
  | "single";

/** A peer as the benchmark sees it. */
export interface PeerUnderTest {
  readonly name: string;
  /** Of this folder. */
  readonly script: string;
  /** Told to the script as BENCH_VARIANT. */
  readonly variant?: string;
  /** Of Node, as the peer's own documentation advises them. */
  readonly nodeOptions?: readonly string[];
  readonly store: "postgres" | "redis";
  readonly abilities: readonly Ability[];
}

const ALL_BUT_TENANTS = [
  "single",
  "drain",
  "wake",
  "future",
  "priority",
  "retry",
  "async",
] as const;

export const knownPeers: readonly PeerUnderTest[] = [
  {
    name: "millrace",
    script: "millrace.ts",
    nodeOptions: ["--max-semi-space-size=8"],
    store: "postgres",
    abilities: [...ALL_BUT_TENANTS, "postgres", "tenants"],
  },
  {
    name: "graphile-worker",
    script: "graphile-worker.ts",
    store: "postgres",
    abilities: [...ALL_BUT_TENANTS, "postgres"],
  },
  {
    name: "graphile-worker-default",
    script: "graphile-worker.ts",
    variant: "default",
    store: "postgres",
    abilities: [...ALL_BUT_TENANTS, "postgres"],
  },
  {
    name: "pg-boss",
    script: "pg-boss.ts",
    store: "postgres",
    abilities: [...ALL_BUT_TENANTS, "postgres"],
  },
  { name: "bullmq-redis", script: "bullmq.ts", store: "redis", abilities: ALL_BUT_TENANTS },
  {
    name: "bullmq-postgres",
    script: "bullmq.ts",
    variant: "postgres",
    store: "postgres",
    abilities: [...ALL_BUT_TENANTS, "postgres"],
  },
  {
    name: "floor",
    script: "floor.ts",
    store: "postgres",
    abilities: ["single", "drain", "postgres"],
  },
  { name: "floor-wake", script: "floor-wake.ts", store: "postgres", abilities: ["wake"] },
  // Its drain is the floor's.
  { name: "floor-copy", script: "floor.ts", variant: "copy", store: "postgres", abilities: [] },
];

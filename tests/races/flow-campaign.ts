import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { flowFaults } from "./flow-oracle.ts";

export interface FlowCampaignOptions {
  readonly seed: number;
  readonly operations: number;
  readonly sessions: number;
  readonly onProgress?: (done: number) => void;
}

export interface FlowCampaignReport {
  readonly seed: number;
  readonly operations: number;
  readonly jobs: number;
  readonly deadlocks: number;
  /** How often which operation was called. */
  readonly calls: Readonly<Record<string, number>>;
  /** What should not be: errors, and jobs whose status does not follow from their parents'. */
  readonly faults: readonly string[];
}

/** So many of the newest jobs are what all sessions act on: small enough that they meet. */
const SHARED = 120;
const MOST_FAULTS = 20;

interface Player {
  readonly sql: TestSql;
  readonly worker: number;
  readonly random: () => number;
  readonly ids: string[];
}

type Operation = (player: Player) => Promise<unknown>;

/** Sessions do what producers, workers, operators and maintenance do to the same graphs, as fast as they can. */
export async function runFlowCampaign(
  db: TestDatabase,
  { seed, operations, sessions, onProgress }: FlowCampaignOptions,
): Promise<FlowCampaignReport> {
  const ids: string[] = [];
  const calls: Record<string, number> = {};
  const faults: string[] = [];
  let done = 0;
  let deadlocks = 0;
  const names = Object.keys(OPERATIONS).flatMap((name) =>
    Array(OPERATIONS[name]?.weight ?? 0).fill(name),
  );
  const play = async (index: number): Promise<void> => {
    const sql = db.connect({ max: 1 });
    const random = generator(seed + index * 7919);
    const [row] = await sql<{ id: number }[]>`
      select (queue.register_worker(${`player ${seed} ${index}`}, null, null, null) ->> 'worker')::integer as id`;
    const player = { sql, random, ids, worker: row?.id ?? 0 };
    while (done < operations) {
      done += 1;
      if (done % 1_000 === 0) onProgress?.(done);
      const name = names[Math.floor(random() * names.length)] as string;
      calls[name] = (calls[name] ?? 0) + 1;
      try {
        await OPERATIONS[name]?.run(player);
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        if (code === "40P01") deadlocks += 1;
        if (faults.length < MOST_FAULTS) faults.push(`${name}: ${code} ${message}`);
      }
    }
    await sql.end();
  };
  await Promise.all(Array.from({ length: sessions }, (_, index) => play(index)));
  faults.push(...(await flowFaults(db.superSql)).slice(0, MOST_FAULTS));
  const [count] = await db.sql<{ n: number }[]>`select count(*)::integer as n from queue.jobs`;
  return { seed, operations: done, jobs: count?.n ?? 0, deadlocks, calls, faults };
}

const OPERATIONS: Readonly<Record<string, { weight: number; run: Operation }>> = {
  enqueue: { weight: 20, run: enqueue },
  "enqueue many": { weight: 4, run: enqueueMany },
  "claim and end": { weight: 30, run: claimAndEnd },
  cancel: { weight: 10, run: (player) => player.sql`select public.cancel_job(${pick(player)})` },
  retry: {
    weight: 6,
    run: (player) => player.sql`
      select public.retry_job(${pick(player)}, null, ${player.random() < 0.5})`,
  },
  redrive: {
    weight: 8,
    run: (player) => player.sql`
      select count(*) from public.redrive_jobs(
        p_ids => ${some(player, 4)}::bigint[], p_with_descendants => ${player.random() < 0.6})`,
  },
  sweep: { weight: 4, run: ({ sql }) => sql`select queue.sweep_children()` },
  "clean up": { weight: 1, run: ({ sql }) => sql`select public.cleanup_stuck_jobs()` },
  maintain: { weight: 1, run: ({ sql }) => sql`select queue.maintain()` },
};

async function enqueue(player: Player): Promise<void> {
  const { sql, random, ids } = player;
  const options = random() < 0.2 ? '{"on_parent_failure": "run"}' : null;
  const [row] = await sql<{ id: string }[]>`
    select public.enqueue_job(
      p_type => 'flow', p_depends_on => ${some(player, 4)}::bigint[], p_options => ${options}::text::jsonb,
      p_scheduled_at => case when ${random() < 0.1} then queue.clock() + interval '1 hour' end, p_max_retries => 1)::text as id`;
  if (row) ids.push(row.id);
}

async function enqueueMany(player: Player): Promise<void> {
  const jobs = Array.from({ length: 12 }, (_, index) => ({
    type: "flow",
    ref: String(index),
    max_retries: 1,
    depends_on: some(player, 2).map(Number),
    depends_on_refs: index > 0 && player.random() < 0.8 ? [String(index - 1)] : [],
  }));
  const rows = await player.sql<{ id: string }[]>`
    select id::text from public.enqueue_jobs(${JSON.stringify(jobs)}::text::jsonb)`;
  player.ids.push(...rows.map(({ id }) => id));
}

const OUTCOMES = [
  "completed",
  "completed",
  "completed",
  "failed",
  "discarded",
  "released",
  "cancelled",
];

/** One call of a worker that claims, and one that tells several ends at once, in any order. */
async function claimAndEnd({ sql, random, worker }: Player): Promise<void> {
  const claim = async (limit: number) => {
    const rows = await sql<{ lease: string; id: string }[]>`
      select held.lease_id::text as lease, held.id::text
      from queue.claim(${worker}, null, null, null, null, ${limit}, 60000, null) as claim,
        unnest(claim.o_leases, claim.o_ids) as held (lease_id, id)`;
    return [...rows];
  };
  const held = [...(await claim(3)), ...(await claim(3))];
  if (random() < 0.5) held.reverse();
  const rest = held.map(({ lease, id }) => ({
    lease,
    id,
    outcome: OUTCOMES[Math.floor(random() * OUTCOMES.length)],
    delay_ms: 0,
  }));
  let left = rest;
  while (left.length > 0) {
    const done = left.filter(({ outcome }) => outcome === "completed");
    const others = left.filter(({ outcome }) => outcome !== "completed");
    const [row] = await sql<{ busy: [string, string][] | null }[]>`
      select queue.advance(
        ${worker}, ${done.map(({ lease }) => lease)}::bigint[], ${done.map(({ id }) => id)}::bigint[],
        ${done.map(() => 1)}::integer[], null, ${JSON.stringify(others)}::text::jsonb) -> 'busy' as busy`;
    const busy = new Set(row?.busy?.map(([, id]) => id));
    left = left.filter(({ id }) => busy.has(id));
  }
}

function pick({ ids, random }: Player): string {
  return ids.at(-1 - Math.floor(random() * Math.min(SHARED, ids.length))) ?? "1";
}

function some(player: Player, most: number): string[] {
  if (player.ids.length === 0) return [];
  const count = Math.floor(player.random() * most);
  return [...new Set(Array.from({ length: count }, () => pick(player)))];
}

/** Numbers from 0 to 1 that follow from the seed: a linear congruential generator. */
function generator(seed: number): () => number {
  let state = seed % 2_147_483_647 || 1;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

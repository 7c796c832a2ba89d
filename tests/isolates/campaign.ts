import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Random, randomFrom } from "../crash/plan.ts";
import { type FunctionServer, reply, startFunctionServer } from "../http/function-server.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type Acknowledgement, identify, type Sighting, sight } from "../support/identity.ts";
import { findStrangers, summarise } from "../support/identity-audit.ts";
import { spawnProcess, type TestProcess } from "../support/processes.ts";
import { startTestServer } from "../support/server.ts";
import { enqueueMany, enqueueShuffled, type ShuffledJob } from "../support/shuffled-enqueue.ts";

export interface IsolateOptions {
  readonly major: number;
  readonly seed: number;
  readonly jobs: number;
  readonly kills: number;
  /** Isolates at a time. */
  readonly isolates: number;
  /** How long each may live; its leases are no longer than nine tenths of that, or 5 s. */
  readonly lifeMs: number;
  /** The longest that a function takes to answer. */
  readonly answerMs: number;
  /** Between two calls of cleanup_stuck_jobs(), as the tick makes them. */
  readonly tickMs: number;
  readonly drainTimeoutMs: number;
  readonly onProgress?: (line: string) => void;
}

export interface IsolateReport {
  readonly seed: number;
  readonly kills: number;
  readonly jobs: number;
  readonly completed: number;
  readonly failed: number;
  /** Attempts whose isolate was killed. */
  readonly lost: number;
  /** The longest time from an isolate's death to the return of a job that it had. */
  readonly longestWaitMs: number;
  readonly ms: number;
  /** What is wrong; empty when all is well. */
  readonly faults: readonly string[];
}

interface Isolate {
  readonly name: string;
  readonly process: TestProcess;
  readonly address: string;
}

const FIXTURE = fileURLToPath(new URL("./isolate.fixture.ts", import.meta.url));
const DENO = fileURLToPath(new URL("../../node_modules/.bin/deno", import.meta.url));
/** What a lease may be at least, and what measuring and a busy machine add. */
const SHORTEST_LEASE_MS = 5_000;
const SLACK_MS = 1_500;

/** Kills isolates at random moments while they send jobs to functions, lets the others finish, and counts. */
export async function runIsolateCampaign(options: IsolateOptions): Promise<IsolateReport> {
  const startedAt = Date.now();
  const server = await startTestServer(options.major);
  const db = await createTestDatabase(server);
  const functions = await startFunctionServer();
  const random = randomFrom(options.seed);
  const sightings: Sighting[] = [];
  functions.answer((call, response) => {
    const sighting = sightCall(call.body);
    sightings.push(sighting);
    const { nonce, attempt } = sighting;
    setTimeout(() => reply(response, 200, { nonce, attempt }), options.answerMs * random());
  });
  try {
    const told = await enqueue(db, options.jobs, random);
    const deaths = await run(options, db, functions, random);
    const strangers = summarise(await findStrangers(db.sql, told, sightings));
    return await judge(options, db, deaths, strangers, startedAt);
  } finally {
    functions.close();
    await db.close();
    await server.stop();
  }
}

/** A group of jobs is written in another order than its ids. */
const GROUP = 20;
/** How many of a group come one by one. */
const SINGLES = 4;

async function enqueue(
  db: TestDatabase,
  count: number,
  random: Random,
): Promise<Acknowledgement[]> {
  const jobs = Array.from({ length: count }, (_, n): ShuffledJob => {
    const facts = { type: "visit", tenant: n % 3 === 0 ? `tenant-${n % 2}` : null };
    const priority = (["critical", "high", "normal", "low"] as const)[Math.floor(random() * 4)];
    return {
      type: facts.type,
      tenant_id: facts.tenant,
      payload: identify(`visit ${n}`, facts, {}),
      idempotency_key: `visit ${n}`,
      ...(priority && { priority }),
    };
  });
  const told = await enqueueMany(db.sql, jobs.splice(0, GROUP));
  while (jobs.length > 0) {
    const [late, ...others] = jobs.splice(0, GROUP);
    if (!late) break;
    const between = others.splice(0, SINGLES);
    told.push(...(await enqueueShuffled(db.sql, { late, between, bulk: others })));
  }
  return told;
}

function sightCall(body: string): Sighting {
  const job = JSON.parse(body) as {
    id: string;
    type: string;
    attempt: number;
    tenant_id: string | null;
    payload: unknown;
  };
  const { id, type, attempt, tenant_id: tenantId, payload } = job;
  return sight(payload, { id, type, attempt, tenantId, lease: "0", worker: "" });
}

/** Resolves with when each isolate died, by name. */
async function run(
  options: IsolateOptions,
  db: TestDatabase,
  functions: FunctionServer,
  random: Random,
): Promise<Map<string, number>> {
  const deaths = new Map<string, number>();
  let started = 0;
  let isOver = false;
  const start = async (): Promise<Isolate> => {
    started += 1;
    const name = `isolate-${started}`;
    const permissions = ["--allow-net", "--allow-env", "--allow-sys", "--allow-read"];
    const process = spawnProcess(DENO, {
      args: [
        "run",
        "--no-check",
        "--quiet",
        ...permissions,
        FIXTURE,
        db.url,
        functions.url,
        name,
        String(options.lifeMs),
      ],
    });
    const output = await process.waitFor(/listening \d+/, { timeoutMs: 60_000 });
    return { name, process, address: `http://127.0.0.1:${/listening (\d+)/.exec(output)?.[1]}/` };
  };
  const keep = async (): Promise<void> => {
    while (!isOver) {
      const isolate = await start();
      const isDoomed = deaths.size < options.kills;
      const before = functions.heard.length;
      const work = call(isolate);
      if (isDoomed) {
        // However busy the machine: it dies at work.
        await Promise.race([work, eventually(() => functions.heard.length > before)]);
        await delay(1_200 * random());
      } else await work;
      const at = Date.now();
      await isolate.process.kill("SIGKILL");
      if (isDoomed && deaths.size < options.kills) {
        deaths.set(isolate.name, at);
        if (deaths.size % 20 === 0) options.onProgress?.(`${deaths.size} isolates killed`);
      }
      await work;
    }
  };
  const tick = async (): Promise<void> => {
    while (!isOver) {
      await delay(options.tickMs);
      await db.sql`select public.cleanup_stuck_jobs()`;
    }
  };
  const isDrained = async (): Promise<boolean> => {
    const [row] = await db.sql<{ is_over: boolean }[]>`
      select not exists (select from queue.ready) and not exists (select from queue.scheduled)
        and not exists (select from queue.leases) as is_over`;
    return deaths.size >= options.kills && (row?.is_over ?? false);
  };
  const loops = [...Array.from({ length: options.isolates }, keep), tick()];
  await eventually(isDrained, { timeoutMs: options.drainTimeoutMs, intervalMs: 200 }).catch(
    () => undefined,
  );
  isOver = true;
  await Promise.all(loops);
  return deaths;
}

/** One run of an isolate, until it ends or dies. */
async function call({ address }: Isolate): Promise<void> {
  const headers = { authorization: "Bearer service" };
  const response = await fetch(`${address}?batch=20`, { method: "POST", headers }).catch(
    () => undefined,
  );
  await response?.body?.cancel();
}

async function judge(
  { seed, jobs, lifeMs, tickMs }: IsolateOptions,
  db: TestDatabase,
  deaths: ReadonlyMap<string, number>,
  strangers: readonly string[],
  startedAt: number,
): Promise<IsolateReport> {
  const names = [...deaths.keys()];
  const times = [...deaths.values()];
  const [row] = await db.sql<
    {
      completed: number;
      failed: number;
      open: number;
      twice: number;
      lost: number;
      longest: number | null;
    }[]
  >`
    with died as (
      select worker.id, to_timestamp(given.ms / 1000.0) as at
      from unnest(${names}::text[], ${times}::double precision[]) as given (name, ms)
      join queue.workers as worker on worker.name like given.name || '#%'
    ),
    final as (
      select run.job_id, count(*) as n from queue.runs as run
      where run.to_status in ('completed', 'failed', 'cancelled') group by run.job_id
    )
    select
      (select count(*)::integer from public.job_queue where status = 'completed') as completed,
      (select count(*)::integer from public.job_queue where status = 'failed') as failed,
      (select count(*)::integer from public.job_queue where status not in ('completed', 'failed')) as open,
      (select count(*)::integer from final where n > 1) as twice,
      (select count(*)::integer from queue.runs where outcome = 'lost') as lost,
      (select max(extract(epoch from run.finished_at - died.at) * 1000)::double precision
        from queue.runs as run join died on died.id = run.worker_id where run.outcome = 'lost') as longest`;
  if (!row) throw new Error("the audit returned nothing");
  const longestWaitMs = Math.round(row.longest ?? 0);
  const mostMs = Math.max(lifeMs * 0.9, SHORTEST_LEASE_MS) + tickMs + SLACK_MS;
  const wrong = [
    [row.open, "jobs still open"],
    [row.twice, "jobs that ended twice"],
    [jobs - row.completed - row.failed - row.open, "jobs unaccounted for"],
    [longestWaitMs > mostMs ? longestWaitMs : 0, `ms of waiting, where ${mostMs} are allowed`],
  ] as const;
  return {
    seed,
    kills: deaths.size,
    jobs,
    completed: row.completed,
    failed: row.failed,
    lost: row.lost,
    longestWaitMs,
    ms: Date.now() - startedAt,
    faults: [
      ...wrong.filter(([count]) => count !== 0).map(([count, what]) => `${count} ${what}`),
      ...strangers,
    ],
  };
}

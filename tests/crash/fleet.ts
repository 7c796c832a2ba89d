import { setTimeout as delay } from "node:timers/promises";
import type { TestSql } from "../support/connect.ts";
import { eventually } from "../support/eventually.ts";
import { spawnScript, type TestProcess } from "../support/processes.ts";
import type { Random } from "./plan.ts";

export interface FleetOptions {
  readonly url: string;
  readonly leaseMs: number;
  /** Where handlers write down what they were given. */
  readonly journal: string;
  /** Workers of the library; one caller of the plain SQL contract comes on top. */
  readonly workers: number;
  readonly random: Random;
}

interface Member {
  readonly process: TestProcess;
  readonly fixture: string;
  /** We did it. */
  isKilled: boolean;
}

/** Worker processes that are killed, frozen and replaced. */
export interface Fleet {
  readonly kills: number;
  /** Kills of a process that held leases when it died. */
  readonly killsMidJob: number;
  readonly freezes: number;
  /** Processes that ended though nobody killed them, with their last words. */
  readonly deaths: readonly string[];
  /** kill -9 of one process, and a new one in its place. */
  kill(sql: TestSql): Promise<void>;
  /** One process stands still for longer than its leases last, then goes on as if nothing had been. */
  freeze(): Promise<void>;
  /** Ends all in good order. */
  stop(): Promise<void>;
}

const WORKER = "./crash-worker.fixture.ts";
const PLAIN_WORKER = "./plain-worker.fixture.ts";

export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const { random, leaseMs } = options;
  const deaths: string[] = [];
  const counts = { kills: 0, killsMidJob: 0, freezes: 0 };
  const spawn = (fixture: string): Member => spawnMember(fixture, options, deaths);
  const members = [...Array.from({ length: options.workers }, () => WORKER), PLAIN_WORKER].map(
    spawn,
  );
  const pick = (): number => Math.floor(random() * members.length);
  const freezes: Promise<void>[] = [];
  await Promise.all(
    members.map((member) => member.process.waitFor("ready", { timeoutMs: 60_000 })),
  );

  return {
    get kills() {
      return counts.kills;
    },
    get killsMidJob() {
      return counts.killsMidJob;
    },
    get freezes() {
      return counts.freezes;
    },
    deaths,
    async kill(sql) {
      const index = await pickHolder(sql, members, random);
      const member = members[index];
      if (!member) return;
      // Stopped first, so that what it holds can be read at the very moment of its death.
      member.isKilled = true;
      member.process.signal("SIGSTOP");
      const holders = await leaseHolders(sql).catch((): number[] => []);
      await member.process.kill("SIGKILL");
      counts.kills += 1;
      if (holders.includes(member.process.pid)) counts.killsMidJob += 1;
      members[index] = spawn(member.fixture);
    },
    async freeze() {
      const member = members[pick()];
      if (!member) return;
      counts.freezes += 1;
      member.process.signal("SIGSTOP");
      const thaw = delay(leaseMs * (1.2 + random())).then(() => member.process.signal("SIGCONT"));
      freezes.push(thaw);
    },
    async stop() {
      await Promise.all(freezes);
      for (const member of members) member.isKilled = true;
      await Promise.all(members.map(({ process }) => process.kill("SIGTERM")));
    },
  };
}

function spawnMember(fixture: string, options: FleetOptions, deaths: string[]): Member {
  const { url, leaseMs, journal } = options;
  const process = spawnScript(new URL(fixture, import.meta.url), {
    env: { CRASH_DATABASE_URL: url, CRASH_LEASE_MS: String(leaseMs), CRASH_JOURNAL: journal },
  });
  const member: Member = { process, fixture, isKilled: false };
  void process.exited.then((exit) => {
    if (!member.isKilled) deaths.push(`${JSON.stringify(exit)}: ${process.output().slice(-2000)}`);
  });
  return member;
}

/** One that is at work, if there is one soon; while Postgres is away nobody knows, then any. */
async function pickHolder(
  sql: TestSql,
  members: readonly Member[],
  random: Random,
): Promise<number> {
  const holding = await eventually(
    async () => {
      const pids = await leaseHolders(sql);
      const found = [...members.keys()].filter((n) => pids.includes(members[n]?.process.pid ?? 0));
      return found.length > 0 ? found : null;
    },
    { timeoutMs: 2000, intervalMs: 100 },
  ).catch((): number[] => [...members.keys()]);
  return holding[Math.floor(random() * holding.length)] ?? 0;
}

/** Process ids of workers that hold leases. */
async function leaseHolders(sql: TestSql): Promise<number[]> {
  const rows = await sql<{ pid: number }[]>`
    select distinct coalesce(worker.details ->> 'pid', split_part(worker.name, ' ', 2))::integer as pid
    from queue.leases as lease join queue.workers as worker on worker.id = lease.worker_id`;
  return rows.map(({ pid }) => pid);
}

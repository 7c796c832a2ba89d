import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Exit, spawnProcess, spawnScript, type TestProcess } from "../support/processes.ts";

/** One worker of the campaign: its process is another after each death. */
export interface Member {
  readonly name: string;
  readonly way: string;
  readonly url: string;
  readonly runtime: "node" | "deno";
}

/** A time in which a process did nothing; milliseconds of the epoch. */
export interface Absence {
  readonly member: string;
  readonly pid: number;
  readonly from: number;
  readonly to: number;
}

export interface FleetOptions {
  readonly members: readonly Member[];
  readonly folder: string;
  readonly leaseMs: number;
}

/** Processes that are killed, frozen, stopped and replaced. */
export interface Fleet {
  readonly members: readonly Member[];
  /** What went wrong with processes: deaths that nobody caused, stops that failed or took too long. */
  readonly wrongs: readonly string[];
  /** The longest time from SIGTERM to the end of a process. */
  readonly longestStopMs: number;
  /** When processes stood still, or died while they may have held claims. */
  readonly absences: readonly Absence[];
  kill(index: number): Promise<void>;
  /** SIGTERM, and a new process once it has ended; it must end with 0 in its time. */
  terminate(index: number): Promise<void>;
  /** It stands still for so long, then goes on as if nothing had been. */
  freeze(index: number, ms: number): Promise<void>;
  stop(): Promise<void>;
}

interface Seat {
  readonly member: Member;
  process: TestProcess;
  /** Somebody does something to it at the moment. */
  isBusy: boolean;
  isExpectedToEnd: boolean;
}

/** A worker's patience with its handlers is 2 s, then they have 1 s, connections may take 5 s to end; handlers may block it for a while. */
const STOP_MS = 2_000 + 1_000 + 5_000 + 7_000;
const DENO = fileURLToPath(new URL("../../node_modules/.bin/deno", import.meta.url));
const WORKER = new URL("./worker.fixture.ts", import.meta.url);
const PLAIN_WORKER = new URL("./plain-worker.fixture.ts", import.meta.url);

export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const wrongs: string[] = [];
  const absences: Absence[] = [];
  let longestStopMs = 0;

  const seats = options.members.map((member): Seat => {
    return { member, isBusy: false, isExpectedToEnd: false, process: spawn(member, options) };
  });
  for (const seat of seats) watch(seat);

  function watch(seat: Seat): void {
    const { member, process } = seat;
    void process.exited.then((exit) => {
      if (seat.process !== process || seat.isExpectedToEnd) return;
      const words = process.output().slice(-1_500);
      wrongs.push(`worker ${member.name} died by itself: ${JSON.stringify(exit)} ${words}`);
      replace(seat);
    });
  }

  function replace(seat: Seat): void {
    seat.process = spawn(seat.member, options);
    seat.isExpectedToEnd = false;
    watch(seat);
  }

  /** Does something to a process unless something is done to it already. */
  async function hold(index: number, work: (seat: Seat) => Promise<void>): Promise<void> {
    const seat = seats[index];
    if (!seat || seat.isBusy) return;
    seat.isBusy = true;
    try {
      await work(seat);
    } finally {
      seat.isBusy = false;
    }
  }

  async function end(seat: Seat): Promise<Exit> {
    seat.isExpectedToEnd = true;
    const began = Date.now();
    const late = delay(STOP_MS, "late" as const, { ref: false });
    const exit = await Promise.race([seat.process.kill("SIGTERM"), late]);
    const ms = Date.now() - began;
    longestStopMs = Math.max(longestStopMs, ms);
    const who = `worker ${seat.member.name}`;
    if (exit === "late") {
      wrongs.push(`${who} did not end within ${STOP_MS} ms of SIGTERM`);
      return seat.process.kill("SIGKILL");
    }
    if (exit.code !== 0) {
      const words = seat.process.output().slice(-1_500);
      wrongs.push(`${who} ended with ${JSON.stringify(exit)} after SIGTERM: ${words}`);
    }
    return exit;
  }

  await Promise.all(seats.map((seat) => seat.process.waitFor("ready", { timeoutMs: 60_000 })));
  return {
    members: options.members,
    wrongs,
    absences,
    get longestStopMs() {
      return longestStopMs;
    },
    kill: (index) =>
      hold(index, async (seat) => {
        seat.isExpectedToEnd = true;
        absences.push({ ...whoIs(seat), from: 0, to: Number.POSITIVE_INFINITY });
        await seat.process.kill("SIGKILL");
        replace(seat);
      }),
    terminate: (index) =>
      hold(index, async (seat) => {
        // One that is just starting has no way to stop in good order yet.
        const isReady = await seat.process.waitFor("ready", { timeoutMs: 20_000 }).then(
          () => true,
          () => false,
        );
        if (!isReady) return;
        await end(seat);
        replace(seat);
      }),
    freeze: (index, ms) =>
      hold(index, async (seat) => {
        const from = Date.now();
        seat.process.signal("SIGSTOP");
        await delay(ms);
        seat.process.signal("SIGCONT");
        absences.push({ ...whoIs(seat), from, to: Date.now() });
      }),
    async stop() {
      await Promise.all(seats.map(end));
    },
  };
}

function whoIs({ member, process }: Seat): { member: string; pid: number } {
  return { member: member.name, pid: process.pid };
}

function spawn(member: Member, { folder, leaseMs }: FleetOptions): TestProcess {
  const { name, way, url, runtime } = member;
  const args = [name, way, url, folder, String(leaseMs)];
  if (way === "sql") return spawnScript(PLAIN_WORKER, { args });
  if (runtime === "node") return spawnScript(WORKER, { args });
  const permissions = [
    "--allow-net",
    "--allow-env",
    "--allow-sys",
    "--allow-read",
    "--allow-write",
  ];
  const file = fileURLToPath(WORKER);
  return spawnProcess(DENO, {
    args: ["run", "--no-check", "--quiet", ...permissions, file, ...args],
  });
}

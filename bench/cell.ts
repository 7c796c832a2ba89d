// One cell: one peer drains one backlog with some worker processes, on a database of its own.

import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { News, Order } from "./peers/protocol.ts";
import type { BenchServer } from "./postgres.ts";

/** A peer and how to see that its work is done. */
export interface PeerUnderTest {
  readonly name: string;
  readonly script: string;
  /** A query that counts what is left in the queue, in a column `n`. */
  readonly leftQuery: string;
  /** A query that counts the attempts it kept, in a column `n`; null where it keeps none. */
  readonly historyQuery: string | null;
}

export interface CellResult {
  readonly peer: string;
  readonly workers: number;
  readonly jobs: number;
  readonly jobsPerSecond: number;
  readonly walBytesPerJob: number;
  readonly workerCpuSecondsPer1000: number;
  readonly left: number;
  readonly history: number | null;
}

const node = fileURLToPath(new URL("./node_modules/.bin/node", import.meta.url));

class PeerProcess {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<
    Order["kind"],
    { done: () => void; failed: (error: Error) => void }
  >();
  #onRan: (jobs: number) => void = () => undefined;

  constructor(script: string, url: string) {
    this.#child = spawn(node, ["--disable-warning=ExperimentalWarning", script], {
      env: { ...process.env, BENCH_DATABASE_URL: url, NODE_ENV: "production" },
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#child.on("message", (news: News) => {
      if (news.kind === "ran") this.#onRan(news.jobs);
      if (news.kind === "done") this.#waiting.get(news.order)?.done();
      if (news.kind === "failed") this.#failAll(new Error(news.message));
    });
    this.#child.on("exit", (code) =>
      this.#failAll(new Error(`${script} ended with exit code ${code}`)),
    );
  }

  order(order: Order): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiting.set(order.kind, { done, failed });
      this.#child.send(order);
    });
  }

  onRan(call: (jobs: number) => void): void {
    this.#onRan = call;
  }

  /** User and system seconds of this process so far (clock ticks of 10 ms). */
  cpuSeconds(): number {
    try {
      const stat = readFileSync(`/proc/${this.#child.pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return (Number(fields[11]) + Number(fields[12])) / 100;
    } catch {
      return Number.NaN;
    }
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  #failAll(error: Error): void {
    for (const waiter of this.#waiting.values()) waiter.failed(error);
  }
}

async function withProcess<T>(
  script: string,
  url: string,
  use: (peer: PeerProcess) => Promise<T>,
): Promise<T> {
  const peer = new PeerProcess(script, url);
  try {
    return await use(peer);
  } finally {
    peer.kill();
  }
}

/** Enqueues a backlog, lets worker processes drain it, and checks that each job ran exactly once. */
export async function drain(
  server: BenchServer,
  peer: PeerUnderTest,
  options: { readonly jobs: number; readonly workers: number },
): Promise<CellResult> {
  const script = fileURLToPath(new URL(peer.script, import.meta.url));
  const url = await server.freshDatabase(`bench_${peer.name.replaceAll(/\W/g, "_")}`);
  await withProcess(script, url, async (producer) => {
    await producer.order({ kind: "setup" });
    await producer.order({ kind: "enqueue", jobs: options.jobs });
  });

  const workers = Array.from({ length: options.workers }, () => new PeerProcess(script, url));
  try {
    await Promise.all(workers.map((worker) => worker.order({ kind: "connect" })));
    const cpuBefore = workers.reduce((sum, worker) => sum + worker.cpuSeconds(), 0);
    const walBefore = await server.walBytes();
    let ran = 0;
    const allRan = new Promise<void>((resolve) => {
      for (const worker of workers) {
        worker.onRan((jobs) => {
          ran += jobs;
          if (ran >= options.jobs) resolve();
        });
      }
    });
    const begin = performance.now();
    const failed = Promise.all(workers.map((worker) => worker.order({ kind: "work" })));
    await Promise.race([allRan, failed.then(() => allRan)]);
    const cpu = workers.reduce((sum, worker) => sum + worker.cpuSeconds(), 0) - cpuBefore;
    // The end counts only when it is written: stopping settles what is still in memory.
    await Promise.all(workers.map((worker) => worker.order({ kind: "stop" })));
    const seconds = (performance.now() - begin) / 1000;
    const wal = (await server.walBytes()) - walBefore;

    const left = Number((await server.look(url, peer.leftQuery))[0]?.["n"]);
    const history =
      peer.historyQuery === null
        ? null
        : Number((await server.look(url, peer.historyQuery))[0]?.["n"]);
    if (ran !== options.jobs || left !== 0 || (history !== null && history !== options.jobs)) {
      throw new Error(
        `${peer.name}: ${options.jobs} jobs, ${ran} handlers ran, ${left} left, ${history} in history`,
      );
    }
    return {
      peer: peer.name,
      workers: options.workers,
      jobs: options.jobs,
      jobsPerSecond: options.jobs / seconds,
      walBytesPerJob: wal / options.jobs,
      workerCpuSecondsPer1000: (cpu / options.jobs) * 1000,
      left,
      history,
    };
  } finally {
    for (const worker of workers) worker.kill();
  }
}

// A process of a peer: the benchmark's end of the protocol.

import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { scriptOf } from "./build.ts";
import type { PeerUnderTest } from "./peers/known.ts";
import type { Answers, News, Order, OrderOf, Ran } from "./peers/protocol.ts";
import { cpuSeconds, memoryMb } from "./proc.ts";

const node = fileURLToPath(new URL("./node_modules/.bin/node", import.meta.url));

interface Waiter {
  readonly done: (answer: unknown) => void;
  readonly failed: (error: Error) => void;
}

export class PeerProcess {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<Order["kind"], Waiter>();
  readonly #failure: Promise<never>;
  #onRan: (ran: Ran) => void = () => undefined;

  constructor(peer: PeerUnderTest, url: string) {
    this.#child = spawn(node, [...(peer.nodeOptions ?? []), scriptOf(peer.script)], {
      env: {
        ...process.env,
        BENCH_DATABASE_URL: url,
        BENCH_VARIANT: peer.variant ?? "",
        NODE_ENV: "production",
      },
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    const { promise, reject } = withReject();
    this.#failure = promise;
    this.#child.on("message", (news: News) => {
      if (news.kind === "ran") this.#onRan(news);
      if (news.kind === "done") this.#waiting.get(news.order)?.done(news.answer);
      if (news.kind === "failed") reject(new Error(`${peer.name}: ${news.message}`));
    });
    this.#child.on("error", reject);
    this.#child.on("exit", (code, signal) =>
      reject(new Error(`${peer.name}: its process ended (${signal ?? `exit code ${code}`})`)),
    );
  }

  /** Rejects when the process fails or ends. */
  get failure(): Promise<never> {
    return this.#failure;
  }

  order<Kind extends Order["kind"]>(order: OrderOf<Kind>): Promise<Answers[Kind]> {
    const answer = new Promise<unknown>((done, failed) => {
      this.#waiting.set(order.kind, { done, failed });
      this.#child.send(order, (error) => {
        if (error) failed(error);
      });
    });
    // serve() answers each kind with its own answer.
    return Promise.race([answer as Promise<Answers[Kind]>, this.#failure]);
  }

  onRan(call: (ran: Ran) => void): void {
    this.#onRan = call;
  }

  cpuSeconds(): number {
    return cpuSeconds(this.#child.pid);
  }

  memoryMb(what: "VmHWM" | "VmRSS"): number {
    return memoryMb(this.#child.pid, what);
  }

  /** Ends the process at once, if it has not ended, and waits for that. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}

/** A promise that may reject with nobody waiting. */
function withReject(): { promise: Promise<never>; reject: (error: Error) => void } {
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<never>((_resolve, rejected) => {
    reject = rejected;
  });
  promise.catch(() => undefined);
  return { promise, reject };
}

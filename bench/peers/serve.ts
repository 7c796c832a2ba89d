// Runs a peer in this process, on the orders of the benchmark. What is the same for all peers is here: the handler, the
// backlog, the producers; so peers differ in nothing but their queue.

import { setTimeout as sleep } from "node:timers/promises";
import { backlogChunks } from "./backlog.ts";
import { PairBook, type Pairs } from "./pairs.ts";
import type {
  Answers,
  Handle,
  News,
  Order,
  OrderOf,
  Peer,
  Stamp,
  WorkOptions,
} from "./protocol.ts";

/** How long handlers that ran may wait for company before they are told. */
const REPORT_MS = 10;
/** Tick of the background producer. */
const PACE_MS = 50;

/** Milliseconds of the machine's monotonic clock. */
function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

class Served {
  readonly #peer: Peer;
  readonly #url = process.env["BENCH_DATABASE_URL"] ?? "";
  readonly #begun: Stamp[] = [];
  readonly #handled = new PairBook();
  #ran = 0;
  #sum = 0;
  #reporting: NodeJS.Timeout | undefined;
  #bystanders = 0;

  constructor(peer: Peer) {
    this.#peer = peer;
  }

  async setup(): Promise<null> {
    await this.#peer.setup(this.#url);
    return null;
  }

  async connect(): Promise<null> {
    await this.#peer.connect(this.#url);
    return null;
  }

  async enqueue({ backlog }: OrderOf<"enqueue">): Promise<Answers["enqueue"]> {
    const told = new PairBook();
    let ms = 0;
    for (const jobs of backlogChunks(backlog)) {
      const begin = now();
      await this.#peer.enqueueMany(jobs);
      ms += now() - begin;
      const ids = this.#peer.idsTold?.();
      for (const [at, { payload }] of jobs.entries()) {
        const id = ids?.[at];
        if (id !== undefined && payload.n >= 0) told.note(payload.n, id);
      }
    }
    return { seconds: ms / 1000, pairs: told.total() };
  }

  async produce({ jobs, producers }: OrderOf<"produce">): Promise<Answers["produce"]> {
    let next = 0;
    const begin = now();
    const loop = async (): Promise<void> => {
      while (next < jobs) await this.#peer.enqueueOne({ payload: { n: next++ } });
    };
    await Promise.all(Array.from({ length: producers }, loop));
    return { seconds: (now() - begin) / 1000 };
  }

  async emit({ jobs, everyMs }: OrderOf<"emit">): Promise<readonly Stamp[]> {
    const sent: Stamp[] = [];
    for (let n = 0; n < jobs; n++) {
      sent.push([n, now()]);
      await this.#peer.enqueueOne({ payload: { n } });
      // Not in step with anything that polls.
      await sleep(everyMs * (0.5 + Math.random()));
    }
    return sent;
  }

  async pace({ perSecond }: OrderOf<"pace">): Promise<null> {
    const begin = now();
    let made = 0;
    const produce = async (): Promise<void> => {
      for (;;) {
        const due = Math.floor(((now() - begin) / 1000) * perSecond) - made;
        made += due;
        const job = { payload: { n: -1 } };
        if (due > 0) await this.#peer.enqueueMany(Array.from({ length: due }, () => job));
        await sleep(PACE_MS);
      }
    };
    produce().catch(tellFailure);
    return null;
  }

  async work({ options }: OrderOf<"work">): Promise<null> {
    await this.#peer.work(options, this.#handler(options));
    return null;
  }

  async bare({ jobs, slots, waitMs }: OrderOf<"bare">): Promise<Answers["bare"]> {
    let next = 0;
    const begin = now();
    const loop = async (): Promise<void> => {
      while (next++ < jobs) await sleep(waitMs);
    };
    await Promise.all(Array.from({ length: slots }, loop));
    return { seconds: (now() - begin) / 1000 };
  }

  count(): Promise<Answers["count"]> {
    return this.#peer.count();
  }

  async pairs(): Promise<Pairs> {
    return this.#handled.total();
  }

  async lonely(): Promise<number | null> {
    return (await this.#peer.lonely?.()) ?? null;
  }

  async settle(): Promise<readonly Stamp[]> {
    await this.#peer.settle();
    this.report();
    return this.#begun;
  }

  report(): void {
    clearTimeout(this.#reporting);
    this.#reporting = undefined;
    if (this.#ran + this.#bystanders === 0) return;
    tell({ kind: "ran", jobs: this.#ran, sum: this.#sum, bystanders: this.#bystanders });
    this.#ran = 0;
    this.#sum = 0;
    this.#bystanders = 0;
  }

  #handler({ waitMs = 0, failEvery = 0, stamps = false }: WorkOptions): Handle {
    const failed = new Set<number>();
    return async ({ n }, id) => {
      if (stamps && n >= 0) this.#begun.push([n, now()]);
      if (waitMs > 0) await sleep(waitMs);
      if (failEvery > 0 && n % failEvery === 0 && !failed.has(n)) {
        failed.add(n);
        throw new Error("first attempts of this job fail");
      }
      // Armed only by work: an idle worker shall be idle.
      this.#reporting ??= setTimeout(() => this.report(), REPORT_MS);
      if (n < 0) {
        this.#bystanders++;
        return;
      }
      this.#ran++;
      this.#sum += n;
      if (id !== undefined) this.#handled.note(n, id);
    };
  }
}

function tell(news: News): void {
  process.send?.(news);
}

function tellFailure(error: unknown): void {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  tell({ kind: "failed", message });
}

export function serve(peer: Peer): void {
  const served = new Served(peer);
  const obey = async (order: Order): Promise<void> => {
    // Each method takes the order of its own name.
    const answer = await served[order.kind](order as never);
    tell({ kind: "done", order: order.kind, answer });
  };
  process.on("message", (order: Order) => {
    obey(order).catch(tellFailure);
  });
  // The benchmark ends processes that it is done with; this is for when it ended itself.
  process.once("disconnect", () => process.exit(1));
}

// Where one measurement takes place: a database of its own, with the peer's schema in it, and the peer's processes.

import { PeerProcess } from "./peer-process.ts";
import type { PeerUnderTest } from "./peers/known.ts";
import { addPairs, NO_PAIRS, type Pairs } from "./peers/pairs.ts";
import type { Backlog, Count } from "./peers/protocol.ts";
import type { Store } from "./store.ts";

export class Stage {
  readonly peer: PeerUnderTest;
  readonly store: Store;
  readonly url: string;
  readonly #processes: PeerProcess[] = [];
  #told = NO_PAIRS;

  private constructor(peer: PeerUnderTest, store: Store, url: string) {
    this.peer = peer;
    this.store = store;
    this.url = url;
  }

  /** Sets a stage, lets `use` play on it, and clears it away. */
  static async with<T>(
    peer: PeerUnderTest,
    store: Store,
    use: (stage: Stage) => Promise<T>,
  ): Promise<T> {
    const url = await store.fresh(`bench_${peer.name.replaceAll(/\W/g, "_")}`);
    const stage = new Stage(peer, store, url);
    try {
      const installer = stage.#start();
      await installer.order<"setup">({ kind: "setup" });
      await installer.end();
      return await use(stage);
    } finally {
      await Promise.all(stage.#processes.map((one) => one.end()));
      await store.drop(url);
    }
  }

  /** A process of the peer with open connections. */
  async process(): Promise<PeerProcess> {
    const started = this.#start();
    await started.order<"connect">({ kind: "connect" });
    return started;
  }

  /** Enqueues jobs from a process that is gone afterwards. */
  async fill(...backlogs: readonly Backlog[]): Promise<void> {
    const producer = await this.process();
    for (const backlog of backlogs) {
      const { pairs } = await producer.order<"enqueue">({ kind: "enqueue", backlog });
      this.#told = addPairs(this.#told, pairs);
    }
    await producer.end();
  }

  /** Throws if handlers got payloads under other ids than were told for them. Says nothing of jobs whose ids were not told. */
  expectPairs(handled: Pairs): void {
    const { jobs, sum } = this.#told;
    if (jobs !== handled.jobs || sum === handled.sum) return;
    throw new Error(`${this.peer.name}: handlers got payloads under the ids of other jobs`);
  }

  /** Lets the planner see what there is, as autovacuum does in time. */
  async analyze(): Promise<void> {
    await this.store.look(this.url, "analyze");
  }

  /** Throws unless the queue holds just this; `completed` matters where the peer keeps history. */
  async expect(expected: { readonly left: number; readonly completed: number }): Promise<void> {
    const counter = await this.process();
    const found: Count = await counter.order<"count">({ kind: "count" });
    await counter.end();
    if (
      found.left === expected.left &&
      (found.completed ?? expected.completed) === expected.completed
    )
      return;
    throw new Error(
      `${this.peer.name}: ${found.left} jobs left instead of ${expected.left}, ${found.completed} completed instead of ${expected.completed}`,
    );
  }

  #start(): PeerProcess {
    const started = new PeerProcess(this.peer, this.url);
    this.#processes.push(started);
    return started;
  }
}

// What the benchmark and its peers say to each other. A peer is a script that speaks this over Node's IPC channel,
// so that each runs in processes of its own and its time holds nothing of the benchmark's.

/** Orders to a peer's process. */
export type Order =
  | { readonly kind: "setup" }
  | { readonly kind: "enqueue"; readonly jobs: number }
  | { readonly kind: "connect" }
  | { readonly kind: "work" }
  | { readonly kind: "stop" };

/** What a peer's process tells: an order done, or how many handlers ran since it last said so. */
export type News =
  | { readonly kind: "done"; readonly order: Order["kind"] }
  | { readonly kind: "ran"; readonly jobs: number }
  | { readonly kind: "failed"; readonly message: string };

/** A peer, as its script implements it. */
export interface Peer {
  /** Installs the schema in an empty database. */
  setup(url: string): Promise<void>;
  /** Puts this many jobs into the queue, with payload { n }. */
  enqueue(url: string, jobs: number): Promise<void>;
  /** Opens connections, so that the time of connecting is not measured. */
  connect(url: string): Promise<void>;
  /** Begins to work; calls onRan for each job whose handler ran. */
  work(url: string, onRan: () => void): Promise<void>;
  /** Settles what is finished and stops. */
  stop(): Promise<void>;
}

/** Runs a peer in this process, on the orders of the benchmark. */
export function serve(peer: Peer): void {
  const url = process.env["BENCH_DATABASE_URL"] ?? "";
  let ran = 0;
  const tell = (news: News): void => {
    process.send?.(news);
  };
  const report = setInterval(() => {
    if (ran === 0) return;
    tell({ kind: "ran", jobs: ran });
    ran = 0;
  }, 10);
  const obey = async (order: Order): Promise<void> => {
    if (order.kind === "setup") await peer.setup(url);
    if (order.kind === "enqueue") await peer.enqueue(url, order.jobs);
    if (order.kind === "connect") await peer.connect(url);
    if (order.kind === "work") {
      await peer.work(url, () => {
        ran++;
      });
    }
    if (order.kind === "stop") {
      await peer.stop();
      clearInterval(report);
      if (ran > 0) tell({ kind: "ran", jobs: ran });
    }
    tell({ kind: "done", order: order.kind });
    if (order.kind === "stop") process.disconnect?.();
  };
  process.on("message", (order: Order) => {
    obey(order).catch((error: unknown) => {
      tell({
        kind: "failed",
        message: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
    });
  });
}

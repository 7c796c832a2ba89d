// Transactions and statements of connect(), or of a postgres.js client, whose connections are cut at every moment. Ends with code 1 when anything escapes.
import postgres from "postgres";
import { connect, fromPostgresJs } from "../../src/db/postgres-js.ts";
import { startFaultyProxy } from "../support/faulty-proxy.ts";

/** It takes several tries to hit the moment: with a client that is used again after its connection closed, one of twenty does. */
const ROUNDS = 10;
/** Some use their transaction again so soon after the fault: the driver may know of it by then, or not. */
const moment = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10));

const told: string[] = [];
const tell = (error: unknown): void => {
  told.push(error instanceof Error ? String(error.stack) : String(error));
};
process.on("uncaughtException", tell);
process.on("unhandledRejection", tell);

type Driver = {
  (texts: TemplateStringsArray): PromiseLike<unknown>;
  savepoint(work: (inner: Driver) => unknown): Promise<unknown>;
};

const proxy = await startFaultyProxy(process.argv[2] ?? "");
const isOwn = process.argv[3] === "connect";
const own = connect(proxy.url, { connectTimeoutMs: 2_000 });
const cut = [() => proxy.reset(), () => proxy.end(), () => proxy.loseReplies()];
const ways: ((driver: Driver, fault: () => unknown) => unknown)[] = [
  // The driver's savepoint rolls back to itself, on a connection that is gone.
  (driver, fault) =>
    driver.savepoint(async (inner) => {
      const answer = inner`select pg_sleep(0.05)`.then();
      fault();
      await answer;
    }),
  async (driver, fault) => {
    const answer = driver`select pg_sleep(0.05)`.then();
    fault();
    await answer;
  },
  async (driver, fault) => {
    if (!isOwn) return fault();
    const late = driver`select 1`;
    fault();
    await moment();
    await late;
  },
  async (_, fault) => {
    fault();
    await moment();
    throw new Error("own");
  },
  (_, fault) => void fault(),
];

let failed = 0;
const note = (): void => {
  failed += 1;
};
for (const fault of Array.from({ length: ROUNDS }, () => cut).flat()) {
  for (const way of ways) {
    // A client that connected anew may never answer; that is known, and not what is looked for here.
    const client = isOwn ? undefined : postgres(proxy.url, { max: 2, fetch_types: false });
    const sql = client ? fromPostgresJs(client as never) : own;
    const work = sql.transaction(async (tx) => way(tx.driver as Driver, fault));
    const limit = new Promise<void>((_, reject) => setTimeout(reject, 10_000, "hangs").unref());
    await Promise.race([work, limit]).catch((error: unknown) =>
      error === "hangs" ? tell(`${way} hangs`) : note(),
    );
    if (isOwn) await Promise.allSettled([sql.query("select 1"), sql.query("select 2")]);
    void client?.end({ timeout: 0 });
  }
}
await own.close();
await proxy.close();
console.log(JSON.stringify({ failed, told }));
process.exit(told.length > 0 ? 1 : 0);

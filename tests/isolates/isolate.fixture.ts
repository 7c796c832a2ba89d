// An isolate of the queue worker under Deno: serves it on a free port of 127.0.0.1 and prints the port. Arguments: the database's URL, where
// functions are, its name, and how many milliseconds it lives.
import process from "node:process";
import { connect, createQueueWorker, defineJob, implement } from "../../src/http/index.ts";

declare const Deno: {
  serve(
    options: { hostname: string; port: number; onListen: (at: { port: number }) => void },
    handler: (request: Request) => Promise<Response>,
  ): unknown;
};

const [, , url = "", functionsUrl = "", name = "", lifeMs = ""] = process.argv;
const ignore = (): void => undefined;

const worker = createQueueWorker({
  sql: connect(url, { max: 2, maxTransactions: 1 }),
  keys: { serviceTokens: ["service"], secretKeys: [], doorbellTokens: [] },
  functionsUrl,
  handlers: [implement(defineJob("noop"), () => undefined)],
  name,
  lifeMs: Number(lifeMs),
  logger: { debug: ignore, info: ignore, warn: ignore, error: console.error },
});

Deno.serve(
  { hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(`listening ${port}`) },
  worker.fetch,
);

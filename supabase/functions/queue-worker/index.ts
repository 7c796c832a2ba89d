// The queue's worker as an Edge Function. Deploy with --no-verify-jwt: it checks its callers itself.
import process from "node:process";
import { connect, createQueueWorker, readEdgeEnvironment } from "millrace/edge";

/** Only where Supabase runs it. */
declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void } | undefined;

const { databaseUrl, options } = readEdgeEnvironment((name) => process.env[name]);

const worker = createQueueWorker({
  ...options,
  sql: connect(databaseUrl, { max: 2, maxTransactions: 1, applicationName: "queue-worker" }),
  handlers: [], // jobs that are handled here and not sent to a function: implement(job, handler)
  usage: () => {
    const { user, system } = process.cpuUsage();
    return { cpuMs: (user + system) / 1_000, memoryBytes: process.memoryUsage().rss };
  },
  ...(typeof EdgeRuntime !== "undefined" && {
    waitUntil: (work: Promise<unknown>) => EdgeRuntime?.waitUntil(work),
  }),
});

// The isolate is about to end: what is unfinished goes back, with its attempt.
addEventListener("beforeunload", () => void worker.release());

export default { fetch: worker.fetch };

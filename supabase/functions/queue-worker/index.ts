// The queue's worker as an Edge Function. Deploy with --no-verify-jwt: it checks its callers itself.
import { connect, createQueueWorker, readEdgeEnvironment } from "millrace/edge";

/** Only where Supabase runs it. */
declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void } | undefined;

const { databaseUrl, options } = readEdgeEnvironment((name) => Deno.env.get(name));

const worker = createQueueWorker({
  ...options,
  sql: connect(databaseUrl, { max: 2, maxTransactions: 1, applicationName: "queue-worker" }),
  handlers: [], // jobs that are handled here and not sent to a function: implement(job, handler)
  ...(typeof EdgeRuntime !== "undefined" && {
    mostCpuMs: 2_000,
    mostMemoryBytes: 256 * 1024 * 1024,
    usage: () => {
      const { heapTotal, external } = Deno.memoryUsage();
      return { memoryBytes: heapTotal + external };
    },
    waitUntil: (work: Promise<unknown>) => EdgeRuntime?.waitUntil(work),
  }),
});

// The isolate is about to end: what is unfinished goes back, with its attempt.
addEventListener("beforeunload", () => void worker.release());

export default { fetch: worker.fetch };

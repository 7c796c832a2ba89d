/**
 * The application that `npm start` runs: it measures every Markdown file of this repository, adds up, and on the way
 * shows each way a job can end.
 *
 * An application module exports `handlers`; `queues` and `seed` are optional. See docs/cli.md.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { defineJob, type Implementation, implement, type Queue, snooze } from "../../src/index.ts";
import { measure } from "./measure.ts";
import { findDocuments, REPOSITORY } from "./repository.ts";

// What the jobs are: a name, the schemas of input and output, a policy. In a larger application these definitions have a
// file of their own, which producers import without pulling in any handler.

/** A Markdown file of the repository, seen from its root: `docs/states.md`. */
const documentPath = z
  .string()
  .endsWith(".md")
  .refine((path) => !path.startsWith("/") && !path.split("/").includes(".."), {
    message: "must lie in the repository",
  });

const measures = z.object({
  path: documentPath,
  words: z.int(),
  links: z.int(),
  headings: z.int(),
});

const measureDocument = defineJob("document.measure", {
  input: z.object({ path: documentPath }),
  output: measures,
  maxRetries: 1,
  backoff: { base: "500ms" },
});

const summarizeDocuments = defineJob("documents.summarize", {
  input: z.object({ title: z.string() }),
});

const publishSummary = defineJob("summary.publish", {
  input: z.object({ wiki: z.url() }),
  backoff: { base: "500ms" },
});

const refreshIndex = defineJob("index.refresh", {
  input: z.object({ lockedUntil: z.iso.datetime() }),
});

const sendDigest = defineJob("digest.send", {
  input: z.object({ to: z.email() }),
});

const printDocument = defineJob("document.print", {
  input: z.object({ path: documentPath, copies: z.int().positive() }),
});

/** What the jobs do. */
export const handlers: readonly Implementation[] = [
  // A file that is not there makes readFile throw: the attempt fails, is retried, and in the end the job is a dead letter.
  implement(measureDocument, async ({ input, signal }) => {
    const text = await readFile(join(REPOSITORY, input.path), { encoding: "utf8", signal });
    return { path: input.path, ...measure(text) };
  }),

  // It waited for the measuring jobs, and reads their results.
  implement(summarizeDocuments, async ({ input, parents }) => {
    const documents = (await parents()).map((parent) => measures.parse(parent.result));
    const longest = documents.reduce((a, b) => (b.words > a.words ? b : a));
    return {
      title: input.title,
      documents: documents.length,
      words: documents.reduce((sum, { words }) => sum + words, 0),
      links: documents.reduce((sum, { links }) => sum + links, 0),
      longest: longest.path,
    };
  }),

  // The wiki is down for two attempts. Throwing is all it takes to be tried again.
  implement(publishSummary, async ({ input, attempt, parents, log }) => {
    if (attempt.number < 3) throw new Error(`${input.wiki} answers 503 Service Unavailable`);
    const [summary] = await parents();
    log.info("summary.published", summary?.result as Record<string, unknown>);
  }),

  // While the index is locked it comes back later, and no attempt is used up.
  implement(refreshIndex, ({ input }) => {
    const waitMs = Date.parse(input.lockedUntil) - Date.now();
    return waitMs > 0 ? snooze(waitMs, "the index is locked") : undefined;
  }),

  implement(sendDigest, ({ input }) => ({ sentTo: input.to })),

  implement(printDocument, ({ input }) => ({ printed: input.copies })),
];

/** So many jobs run at a time. Few, so that one can see the order in which they start. */
export const queues: Readonly<Record<string, number>> = { "*": 2 };

/** Makes the first jobs. `millrace dev` calls it before its worker starts. */
export async function seed(queue: Queue): Promise<void> {
  const paths = await findDocuments();

  // One job for each document, one that waits for all of them, one that waits for that: one statement, all or none.
  await queue.flow((flow) => {
    const measured = paths.map((path) => flow.add(measureDocument, { path }));
    const title = "The documents of this repository";
    const summary = flow.add(summarizeDocuments, { title }, { after: measured });
    flow.add(publishSummary, { wiki: "https://wiki.example.com" }, { after: summary });
  });

  // No such file: it fails until its retries are used up.
  await queue.enqueue(measureDocument, { path: "docs/lost.md" });

  const lockedUntil = new Date(Date.now() + 1_500).toISOString();
  await queue.enqueue(refreshIndex, { lockedUntil });
  await queue.enqueue(sendDigest, { to: "ada@example.com" }, { delay: "3s" });

  const print = { path: "README.md", copies: 500 };
  const printing = await queue.enqueue(printDocument, print, { delay: "1h" });
  await queue.cancel(printing, { reason: "nobody reads paper" });

  // Made last, and first to run.
  await queue.enqueue(measureDocument, { path: "README.md" }, { priority: "critical" });
}

/**
 * The application that `npm start` runs: it measures every Markdown file of this repository, adds up, and on the way
 * shows each way a job can end.
 *
 * An application module exports `handlers`; `queues` and `seed` are optional. See docs/cli.md.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { implement, type Queue, snooze } from "../../src/index.ts";
import {
  measureDocument,
  measures,
  printDocument,
  publishSummary,
  refreshIndex,
  sendDigest,
  summarizeDocuments,
} from "./jobs.ts";
import { measure } from "./measure.ts";
import { findDocuments, REPOSITORY } from "./repository.ts";

/** What the jobs do. */
export const handlers = [
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
export const queues = { "*": 2 };

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

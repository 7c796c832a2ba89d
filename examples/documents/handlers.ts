/** What the jobs do. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { implement, snooze } from "../../src/index.ts";
import {
  type Measures,
  measureDocument,
  printDocument,
  publishSummary,
  refreshIndex,
  sendDigest,
  summarizeDocuments,
} from "./jobs.ts";
import { measure } from "./measure.ts";
import { REPOSITORY } from "./repository.ts";

export const handlers = [
  // A file that is not there makes readFile throw: the attempt fails, is retried, and in the end the job is a dead letter.
  implement(measureDocument, async ({ input, signal }) => {
    const text = await readFile(join(REPOSITORY, input.path), { encoding: "utf8", signal });
    return { path: input.path, ...measure(text) };
  }),

  implement(summarizeDocuments, async ({ input, parents }) => {
    const documents = (await parents()).map((parent) => parent.result as Measures);
    const [longest] = documents.toSorted((a, b) => b.words - a.words);
    return {
      title: input.title,
      documents: documents.length,
      words: documents.reduce((sum, { words }) => sum + words, 0),
      links: documents.reduce((sum, { links }) => sum + links, 0),
      longest: longest?.path ?? null,
    };
  }),

  // Throwing is all it takes to be tried again.
  implement(publishSummary, async ({ input, attempt, parents, log }) => {
    if (attempt.number < 3) throw new Error(`${input.wiki} answers 503 Service Unavailable`);
    const [summary] = await parents();
    log.info("summary.published", summary?.result as Record<string, unknown>);
  }),

  implement(refreshIndex, ({ input }) => {
    const waitMs = Date.parse(input.lockedUntil) - Date.now();
    return waitMs > 0 ? snooze(waitMs, "the index is locked") : undefined;
  }),

  implement(sendDigest, ({ input }) => ({ sentTo: input.to })),

  implement(printDocument, ({ input }) => ({ printed: input.copies })),
];

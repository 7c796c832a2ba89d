/** What the jobs are: names, inputs, outputs and policy. Producers import this file and no handler. */
import { z } from "zod";
import { defineJob } from "../../src/index.ts";

/** A Markdown file of the repository, seen from its root: `docs/states.md`. */
const path = z
  .string()
  .regex(/\.md$/, "must end in .md")
  .refine((text) => !text.startsWith("/") && !text.split("/").includes(".."), {
    message: "must lie in the repository",
  });

const measures = z.object({
  path,
  words: z.int(),
  links: z.int(),
  headings: z.int(),
});

export type Measures = z.infer<typeof measures>;

/** Counts the words and links of one document. */
export const measureDocument = defineJob("document.measure", {
  input: z.object({ path }),
  output: measures,
  maxRetries: 1,
  backoff: { base: "500ms" },
});

/** Adds up what was measured. It waits for the measuring jobs and reads their results. */
export const summarizeDocuments = defineJob("documents.summarize", {
  input: z.object({ title: z.string() }),
  output: z.object({
    title: z.string(),
    documents: z.int(),
    words: z.int(),
    links: z.int(),
    longest: z.string().nullable(),
  }),
});

/** Puts the summary on a wiki that is down for the first two attempts. */
export const publishSummary = defineJob("summary.publish", {
  input: z.object({ wiki: z.url() }),
  backoff: { base: "500ms" },
});

/** Waits politely while the index is locked: no attempt is used up. */
export const refreshIndex = defineJob("index.refresh", {
  input: z.object({ lockedUntil: z.iso.datetime() }),
});

/** Is due a few seconds after it was made. */
export const sendDigest = defineJob("digest.send", {
  input: z.object({ to: z.email() }),
});

/** Somebody thinks better of it before it is due. */
export const printDocument = defineJob("document.print", {
  input: z.object({ path, copies: z.int().positive() }),
});

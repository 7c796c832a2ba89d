/**
 * What the jobs are: a name, the schemas of input and output, a policy. Producers import these definitions and no handler.
 */
import { z } from "zod";
import { defineJob } from "../../src/index.ts";

/** A Markdown file of the repository, seen from its root: `docs/states.md`. */
const documentPath = z
  .string()
  .endsWith(".md")
  .refine((path) => !path.startsWith("/") && !path.split("/").includes(".."), {
    message: "must lie in the repository",
  });

export const measures = z.object({
  path: documentPath,
  words: z.int(),
  links: z.int(),
  headings: z.int(),
});

export const measureDocument = defineJob("document.measure", {
  input: z.object({ path: documentPath }),
  output: measures,
  maxRetries: 1,
  backoff: { base: "500ms" },
});

export const summarizeDocuments = defineJob("documents.summarize", {
  input: z.object({ title: z.string() }),
});

export const publishSummary = defineJob("summary.publish", {
  input: z.object({ wiki: z.url() }),
  backoff: { base: "500ms" },
});

export const refreshIndex = defineJob("index.refresh", {
  input: z.object({ lockedUntil: z.iso.datetime() }),
});

export const sendDigest = defineJob("digest.send", {
  input: z.object({ to: z.email() }),
});

export const printDocument = defineJob("document.print", {
  input: z.object({ path: documentPath, copies: z.int().positive() }),
});

import type { Queue } from "../../src/index.ts";
import {
  measureDocument,
  printDocument,
  publishSummary,
  refreshIndex,
  sendDigest,
  summarizeDocuments,
} from "./jobs.ts";
import { findDocuments } from "./repository.ts";

/** Makes the first jobs. `millrace dev` calls it before its worker starts. */
export async function seed(queue: Queue): Promise<void> {
  const documents = await findDocuments();

  // One job for each document, one that waits for all of them, and one that waits for that: one statement, all or none.
  await queue.flow((flow) => {
    const measured = documents.map((path) => flow.add(measureDocument, { path }));
    const summary = flow.add(
      summarizeDocuments,
      { title: "The documents of this repository" },
      { after: measured },
    );
    flow.add(publishSummary, { wiki: "https://wiki.example.com/documents" }, { after: summary });
  });

  // Its file does not exist: it will fail until its retries are used up.
  await queue.enqueue(measureDocument, { path: "docs/lost-and-not-found.md" });

  const lockedUntil = new Date(Date.now() + 1_500).toISOString();
  await queue.enqueue(refreshIndex, { lockedUntil });
  await queue.enqueue(sendDigest, { to: "ada@example.com" }, { delay: "3s" });

  const print = await queue.enqueue(
    printDocument,
    { path: "README.md", copies: 500 },
    { delay: "1h" },
  );
  await queue.cancel(print, { reason: "nobody reads paper" });

  // Made last, and first to run.
  await queue.enqueue(measureDocument, { path: "README.md" }, { priority: "critical" });
}

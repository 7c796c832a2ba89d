import { setTimeout as delay } from "node:timers/promises";
import type { Worker } from "../../src/index.ts";

/** Starts a worker. The database may be away just then: it is for the process to try again, with another one. */
export async function startSoon(makeWorker: () => Worker): Promise<Worker> {
  for (;;) {
    const worker = makeWorker();
    try {
      await worker.start();
      return worker;
    } catch {
      await delay(200);
    }
  }
}

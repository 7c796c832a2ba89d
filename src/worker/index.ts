export type { AttemptEnd, AttemptFacts, WorkerEvent } from "./events.ts";
export {
  createWorker,
  type DrainOptions,
  type RunOptions,
  type StopOptions,
  type StopReport,
  type Worker,
  type WorkerOptions,
  type WorkerState,
} from "./worker.ts";

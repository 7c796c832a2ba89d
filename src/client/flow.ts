import type { Job } from "../core/define-job.ts";
import { QueueError } from "../core/errors.ts";
import type { MadeJob, NewJob } from "../db/enqueue-functions.ts";
import type { ResultOptions } from "./await-result.ts";
import { type EnqueueOptions, idOf, idsOf, toNewJob } from "./enqueue-options.ts";
import type { EnqueuedJob, ToHandle } from "./enqueuer.ts";

/** Collects the jobs of a flow. */
export interface Flow {
  /**
   * Adds a job. `after` names jobs of this flow, or of one that is enqueued; `dependsOn` jobs that exist already. It waits for all of
   * them. Throws FlowClosedError once the function given to `flow` has ended.
   */
  add<Input, Output, Given>(
    job: Job<Input, Output, Given>,
    input: NoInfer<Given>,
    options?: FlowOptions,
  ): FlowJob<Output>;
}

export interface FlowOptions extends Omit<EnqueueOptions, "idempotencyKey"> {
  readonly after?: FlowJob | readonly FlowJob[];
}

/** A job of a flow. Its id is known once the flow is enqueued. */
export interface FlowJob<Output = unknown> extends EnqueuedJob<Output> {
  /** Its name within the flow. */
  readonly ref: string;
}

/** The id of a flow's job was read before the flow was enqueued. */
export class FlowNotEnqueuedError extends QueueError {
  override readonly name = "FlowNotEnqueuedError";
  readonly code = "FLOW_NOT_ENQUEUED";
}

/** A job was added to a flow that is enqueued already. */
export class FlowClosedError extends QueueError {
  override readonly name = "FlowClosedError";
  readonly code = "FLOW_CLOSED";
}

interface Entry {
  readonly handle: Handle;
  readonly job: Job;
  readonly input: unknown;
  readonly options: FlowOptions;
}

class Handle implements FlowJob {
  readonly ref: string;
  #enqueued: EnqueuedJob | undefined;

  constructor(ref: string) {
    this.ref = ref;
  }

  settle(enqueued: EnqueuedJob): void {
    this.#enqueued = enqueued;
  }

  get id(): string {
    return this.#get().id;
  }

  get outcome(): EnqueuedJob["outcome"] {
    return this.#get().outcome;
  }

  result(options?: ResultOptions): Promise<unknown> {
    return this.#get().result(options);
  }

  #get(): EnqueuedJob {
    if (this.#enqueued) return this.#enqueued;
    throw new FlowNotEnqueuedError("This job has no id yet: its flow is still being built", {
      hint: "Inside of flow(), depend on it with `after`; read its id once flow() has resolved.",
    });
  }
}

export async function buildFlow<T>(
  enqueue: (jobs: readonly NewJob[]) => Promise<MadeJob[]>,
  toHandle: ToHandle,
  build: (flow: Flow) => T | Promise<T>,
): Promise<T> {
  const entries: Entry[] = [];
  let isClosed = false;
  const built = await build({
    add(job, input, options = {}) {
      if (isClosed) {
        throw new FlowClosedError("This flow is enqueued already", {
          hint: "Add all jobs before the function given to flow() returns, or its promise resolves.",
        });
      }
      const handle = new Handle(String(entries.length + 1));
      entries.push({ handle, job, input, options });
      return handle as unknown as FlowJob<never>;
    },
  });
  isClosed = true;
  const own = new Set<unknown>(entries.map((entry) => entry.handle));
  const jobs: NewJob[] = [];
  for (const entry of entries) jobs.push(await toFlowJob(entry, own));
  const made = jobs.length === 0 ? [] : await enqueue(jobs);
  for (const [index, one] of made.entries()) entries[index]?.handle.settle(toHandle(one));
  return built;
}

async function toFlowJob(
  { handle, job, input, options }: Entry,
  own: ReadonlySet<unknown>,
): Promise<NewJob> {
  const { after = [], ...rest } = options;
  const parents = Array.isArray(after) ? (after as readonly FlowJob[]) : [after as FlowJob];
  const inside = parents.filter((parent) => own.has(parent));
  // Of another flow: by its id, which it has once that flow is enqueued. Refs mean something within one flow only.
  const outside = parents
    .filter((parent) => !own.has(parent))
    .map((parent) => idOf(parent, "after"));
  const existing = [...(idsOf("dependsOn", rest.dependsOn) ?? []), ...outside];
  return {
    ...(await toNewJob(job, input, rest)),
    dependsOn: existing.length > 0 ? existing : undefined,
    ref: handle.ref,
    dependsOnRefs: inside.length > 0 ? inside.map((parent) => parent.ref) : undefined,
  };
}

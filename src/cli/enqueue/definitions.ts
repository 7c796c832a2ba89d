import { toNewJob } from "../../client/enqueue-options.ts";
import type { Priority } from "../../core/define-job.ts";
import type { NewJob } from "../../db/enqueue-functions.ts";
import { loadApplication } from "../application.ts";
import { usageError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";

/**
 * Completes a job by its definition: checks the payload against its schema and fills in its policy. Throws InvalidPayloadError
 * with the path of the fault.
 */
export type Complete = (job: NewJob, payload: unknown) => Promise<NewJob>;

/** By the definitions of an application; without one every job stays as it is, as the queue itself takes it. */
export async function loadDefinitions(
  context: CliContext,
  path: string | undefined,
): Promise<Complete> {
  if (path === undefined) return async (job) => job;
  const { handlers } = await loadApplication(context, path);
  const definitions = new Map(handlers.map(({ job }) => [job.type, job]));
  return async (job, payload) => {
    const definition = definitions.get(job.type);
    if (!definition) {
      throw usageError(
        `${path} handles no jobs of type ${job.type}`,
        `It handles ${[...definitions.keys()].join(", ")}`,
      );
    }
    const { priority, queue, maxRetries, options } = job;
    const complete = await toNewJob(definition, payload, {
      // The names were checked when the arguments were read; those of a file are checked here.
      ...(priority !== undefined && { priority: priority as Priority }),
      ...(queue !== undefined && { queue }),
      ...(maxRetries !== undefined && { maxRetries }),
    });
    return {
      ...job,
      priority: complete.priority,
      queue: complete.queue,
      maxRetries: complete.maxRetries,
      options: options ?? complete.options,
    };
  };
}

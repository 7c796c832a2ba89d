import { parseInput } from "../../core/input.ts";
import { loadApplication } from "../application.ts";
import { usageError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";

/** Throws InvalidPayloadError, with the path of the fault, for a payload that does not fit its type's schema. */
export type SchemaCheck = (type: string, payload: unknown) => Promise<void>;

/** A check against the schemas of an application; without one everything passes, as the queue itself does. */
export async function loadSchemas(
  context: CliContext,
  path: string | undefined,
): Promise<SchemaCheck> {
  if (path === undefined) return async () => undefined;
  const { handlers } = await loadApplication(context, path);
  const jobs = new Map(handlers.map(({ job }) => [job.type, job]));
  return async (type, payload) => {
    const job = jobs.get(type);
    if (!job) {
      throw usageError(
        `${path} handles no jobs of type ${type}`,
        `It handles ${[...jobs.keys()].join(", ")}`,
      );
    }
    await parseInput(job, payload);
  };
}

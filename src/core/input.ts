import type { Job } from "./define-job.ts";
import { InvalidPayloadError, InvalidResultError } from "./errors.ts";
import {
  issuePath,
  issueSummary,
  type StandardResult,
  type StandardSchema,
} from "./standard-schema.ts";

/**
 * The input as its schema parses it; as it is when the job has none. A promise only if the schema is asynchronous.
 *
 * Throws InvalidPayloadError with the path of the first fault.
 */
export function parseInput(job: Job, value: unknown): unknown {
  return parsePayload(job.input, value);
}

/** The same for a schema alone. */
export function parsePayload(schema: StandardSchema | undefined, value: unknown): unknown {
  return check(schema, value, (path, reason) => new InvalidPayloadError(path, reason));
}

/** The result as its schema parses it. Throws InvalidResultError. */
export function parseOutput(job: Job, value: unknown): unknown {
  return check(job.output, value, (path, reason) => new InvalidResultError(path, reason));
}

function check(
  schema: StandardSchema | undefined,
  value: unknown,
  fault: (path: string, reason: string) => Error,
): unknown {
  if (!schema) return value;
  const settle = (result: StandardResult<unknown>): unknown => {
    if (!result.issues) return result.value;
    throw fault(issuePath(result.issues[0]), issueSummary(result.issues));
  };
  const result = schema["~standard"].validate(value);
  return result instanceof Promise ? result.then(settle) : settle(result);
}

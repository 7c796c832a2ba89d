import type { Job } from "./define-job.ts";
import { InvalidPayloadError, InvalidResultError } from "./errors.ts";
import {
  issuePath,
  issueSummary,
  type StandardResult,
  type StandardSchema,
} from "./standard-schema.ts";

/** Is told of the error that is about to be thrown: one of the same class may come out of a schema's own code. */
export type OnFault = (error: Error) => void;

/**
 * The input as its schema parses it; as it is when the job has none. A promise only if the schema is asynchronous.
 *
 * Throws InvalidPayloadError with the path of the first fault.
 */
export function parseInput(job: Job, value: unknown, onFault?: OnFault): unknown {
  return check(job.input, value, (path, reason) => new InvalidPayloadError(path, reason), onFault);
}

/** The same for a schema alone. */
export function parsePayload(schema: StandardSchema | undefined, value: unknown): unknown {
  return check(schema, value, (path, reason) => new InvalidPayloadError(path, reason));
}

/** The result as its schema parses it. Throws InvalidResultError. */
export function parseOutput(job: Job, value: unknown, onFault?: OnFault): unknown {
  return check(job.output, value, (path, reason) => new InvalidResultError(path, reason), onFault);
}

function check(
  schema: StandardSchema | undefined,
  value: unknown,
  fault: (path: string, reason: string) => Error,
  onFault?: OnFault,
): unknown {
  if (!schema) return value;
  const settle = (result: StandardResult<unknown>): unknown => {
    if (!result.issues) return result.value;
    const error = fault(issuePath(result.issues[0]), issueSummary(result.issues));
    onFault?.(error);
    throw error;
  };
  const result = schema["~standard"].validate(value);
  return result instanceof Promise ? result.then(settle) : settle(result);
}

import {
  type JobCall,
  type JobFunctionOptions,
  jobFunction,
  RetryLater,
  type StandardSchema,
  senderAccessOf,
} from "millrace/functions";
import { environment, waitUntil } from "./runtime.ts";

/** What `deno serve` and Supabase take as a function. */
export interface Entry {
  readonly fetch: (request: Request) => Promise<Response>;
}

/** A function that does jobs whose payload fits the schema, with everything it reads from the environment. */
export function entryOf<Payload>(
  schema: StandardSchema<unknown, Payload>,
  handle: (call: JobCall<Payload>) => Promise<unknown>,
  options: Pick<JobFunctionOptions, "later"> = {},
): Entry {
  const stopping = new AbortController();
  // Supabase says so shortly before it ends an isolate; what is not done by then is done again elsewhere.
  addEventListener("beforeunload", () => {
    stopping.abort(new RetryLater("The function's isolate is about to end", 1));
  });
  const access = senderAccessOf(environment);
  const fetch = jobFunction(
    { ...options, access, schema, waitUntil, stopping: stopping.signal },
    handle,
  );
  return { fetch };
}

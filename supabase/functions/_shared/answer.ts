import { Refused } from "millrace/functions";
import type { z } from "zod";

/** A service's answer, if it has the shape we know. If not, the service has changed, and this function must follow. */
export function answerAs<T>(schema: z.ZodType<T>, body: unknown, name: string): T {
  const { success, data, error } = schema.safeParse(body);
  if (success) return data;
  const [issue] = error.issues;
  throw new Refused(
    `${name} answered in an unknown shape at ${issue?.path.join(".") || "its root"}: ${issue?.message}`,
  );
}

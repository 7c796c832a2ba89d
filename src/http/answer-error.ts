import { hasCode, isQueueError } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import { problemResponse } from "./problem.ts";
import { RequestRefused } from "./request-refused.ts";

/** The answer to a call that failed. What went wrong inside is for the log; the caller gets a code, and no secret. */
export function translated(error: unknown, logger: Logger): Response {
  if (error instanceof RequestRefused) return problemResponse(error.problem);
  logger.error("request.failed", { error });
  if (hasCode(error, "DATABASE_UNREACHABLE", "DATABASE_TIMEOUT")) {
    return problemResponse({
      status: 503,
      code: error.code,
      title: "The database cannot be reached",
      detail: "Check QUEUE_DB_URL, and whether the database is up.",
      headers: { "retry-after": "5" },
    });
  }
  if (hasCode(error, "SCHEMA_VERSION")) {
    const { code, message: title, hint } = error;
    return problemResponse({
      status: 503,
      code,
      title,
      ...(hint !== undefined && { detail: hint }),
    });
  }
  const code = isQueueError(error) ? error.code : undefined;
  return problemResponse({
    status: 500,
    code: code ?? "INTERNAL_ERROR",
    title: "The call failed",
    detail: "The function's log says why.",
  });
}

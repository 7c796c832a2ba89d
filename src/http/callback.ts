import { InvalidResultError } from "../core/errors.ts";
import { encodeResult, storableText } from "../core/json.ts";
import { answerCall, type CallReport } from "../db/attempt-functions.ts";
import type { Queryable } from "../db/sql.ts";
import { readCallbackToken } from "./callback-token.ts";
import { problemResponse } from "./problem.ts";
import { invalidRequest, readBodyObject } from "./read-body.ts";
import { methodRefused } from "./request-refused.ts";

/** Results and progress data; the database has limits of its own. */
const MOST_BODY_BYTES = 8 * 1024 * 1024;
/** More than one day at a time is no sign of life. */
const LONGEST_EXTEND_S = 86_400;

/** The body of a report, as a function sends it. */
type Body = Readonly<Record<string, unknown>>;

/**
 * Answers a function that reports on a job it was sent: progress, more time, or the end. 401 for a token that is not ours, 409 when the
 * job is no longer that attempt's, 400 for a report that makes no sense (as RequestRefused).
 */
export async function answerCallback(
  request: Request,
  sql: Queryable,
  secrets: readonly string[],
): Promise<Response> {
  if (request.method !== "POST") throw methodRefused("POST");
  const bearer = /^Bearer +(\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
  const claim = await readCallbackToken(bearer, secrets);
  if (!claim) {
    return problemResponse({
      status: 401,
      code: "UNAUTHORIZED",
      title: "This call needs the token that came with the job",
      headers: { "www-authenticate": "Bearer" },
    });
  }
  const body = await readBodyObject(request, MOST_BODY_BYTES);
  const [report, detail] = readReport(body);
  if (await answerCall(sql, claim, report, detail, request.signal)) {
    return Response.json({ accepted: true });
  }
  return problemResponse({
    status: 409,
    code: "LEASE_LOST",
    title: `Job ${claim.jobId} is no longer this attempt's`,
    detail: "It ended, or its time ran out and somebody else may have it. Stop working on it.",
  });
}

function readReport(body: Body): [CallReport, Body] {
  switch (body["report"]) {
    case "progress":
      return [
        "progress",
        {
          percent: number(body, "percent", 0, 100),
          message: text(body, "message"),
          data: json(body, "data"),
        },
      ];
    case "extend":
      return ["extend", { seconds: number(body, "seconds", 1, LONGEST_EXTEND_S) }];
    case "complete":
      return ["completed", { result: json(body, "result") }];
    case "fail":
      return ["failed", failure(body)];
  }
  throw invalidRequest(
    "The body must name a report",
    'It is one of "progress", "extend", "complete" and "fail".',
  );
}

function failure(body: Body): Body {
  const { retryable, retry_after_seconds: after } = body;
  if (retryable !== undefined && typeof retryable !== "boolean") {
    throw invalidRequest("retryable must be true or false");
  }
  const delay =
    after === undefined || after === null
      ? {}
      : { delay_ms: number(body, "retry_after_seconds", 0, 31_536_000) * 1_000 };
  const message = text(body, "error") ?? "the function reported a failure without a message";
  return { error: { name: "FunctionError", message }, retryable: retryable ?? true, ...delay };
}

function number(body: Body, field: string, least: number, most: number): number {
  const value = body[field];
  if (typeof value === "number" && value >= least && value <= most) return value;
  throw invalidRequest(`${field} must be a number from ${least} to ${most}`);
}

function text(body: Body, field: string): string | null {
  const value = body[field];
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return storableText(value);
  throw invalidRequest(`${field} must be a text`);
}

/** As the database can keep it. */
function json(body: Body, field: string): unknown {
  try {
    return JSON.parse(encodeResult(body[field]) ?? "null");
  } catch (error) {
    if (error instanceof InvalidResultError) throw invalidRequest(`${field}: ${error.reason}`);
    throw error;
  }
}

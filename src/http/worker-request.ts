import { bodyText } from "./body-text.ts";
import { RequestRefused } from "./request-refused.ts";

/** What a caller of the worker's endpoint wants. */
export type WorkerRequest =
  | { readonly action: "health" }
  | { readonly action: "stats" }
  | {
      readonly action: "process";
      /** Only jobs of this type. @default all */
      readonly type?: string;
      /** The most jobs that run at a time. */
      readonly batch?: number;
      /** Only jobs of this tenant. @default all */
      readonly tenantId?: string;
      /** The most jobs of each tenant in this run. */
      readonly maxJobs?: number;
      /** Answer at once, work on afterwards. */
      readonly isAsync: boolean;
    };

/** The most of a body that is read: it holds a few short fields. */
export const MOST_BODY_BYTES: number = 16 * 1024;
const MOST_BATCH = 1_000;
const MOST_JOBS = 100_000;
const FIELDS = ["action", "type", "batch", "tenantId", "maxJobs", "async"] as const;
type Field = (typeof FIELDS)[number];
type Given = Partial<Record<Field, unknown>>;

/**
 * Reads query and JSON body; a field in the query goes before the same field in the body. Rejects with RequestRefused: 400 for a value that
 * makes no sense, 404 for an unknown action, 405 and 413 as HTTP means them.
 */
export async function readWorkerRequest(request: Request): Promise<WorkerRequest> {
  const { searchParams } = new URL(request.url);
  const isPost = request.method === "POST";
  if (!isPost && request.method !== "GET") throw methodRefused("GET, POST");
  const query: Given = {};
  for (const [key, value] of searchParams) query[fieldOf(key)] = value;
  const given: Given = { ...(isPost ? await readBody(request) : {}), ...query };

  const action = text(given, "action") ?? "process";
  if (action === "health" || action === "stats") return { action };
  if (action !== "process") {
    throw new RequestRefused({
      status: 404,
      code: "UNKNOWN_ACTION",
      title: `There is no action ${JSON.stringify(action.slice(0, 80))}`,
      detail: "The actions are process, health and stats.",
    });
  }
  if (!isPost) throw methodRefused("POST");
  const type = text(given, "type");
  const tenantId = text(given, "tenantId");
  const batch = count(given, "batch", MOST_BATCH);
  const maxJobs = count(given, "maxJobs", MOST_JOBS);
  return {
    action,
    ...(type !== undefined && { type }),
    ...(tenantId !== undefined && { tenantId }),
    ...(batch !== undefined && { batch }),
    ...(maxJobs !== undefined && { maxJobs }),
    isAsync: flag(given, "async"),
  };
}

async function readBody(request: Request): Promise<Given> {
  const body = await bodyText(request, MOST_BODY_BYTES);
  if (body.trim() === "") return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    throw refused("The body is no JSON");
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw refused("The body must be a JSON object");
  }
  const given: Given = {};
  for (const [key, value] of Object.entries(parsed)) given[fieldOf(key)] = value;
  return given;
}

/** SQL's names are welcome too: this is called from the database. */
const ALIASES: Readonly<Record<string, Field>> = { tenant_id: "tenantId", max_jobs: "maxJobs" };

function fieldOf(key: string): Field {
  const alias = Object.hasOwn(ALIASES, key) ? ALIASES[key] : undefined;
  const field = FIELDS.find((one) => one === key) ?? alias;
  if (field === undefined) {
    throw refused(
      `There is no field ${JSON.stringify(key.slice(0, 80))}`,
      `Known: ${FIELDS.join(", ")}.`,
    );
  }
  return field;
}

function text(given: Given, field: Field): string | undefined {
  const value = given[field];
  if (value === undefined || value === null || value === "") return undefined;
  if (typeof value === "string" && value.length <= 200) return value;
  throw refused(`${field} must be a text of at most 200 characters`);
}

function count(given: Given, field: Field, most: number): number | undefined {
  const value = given[field];
  if (value === undefined || value === null || value === "") return undefined;
  const number = typeof value === "string" && /^\d{1,9}$/.test(value) ? Number(value) : value;
  if (typeof number === "number" && Number.isInteger(number) && number >= 1 && number <= most) {
    return number;
  }
  throw refused(`${field} must be a whole number from 1 to ${most}`);
}

function flag(given: Given, field: Field): boolean {
  const value = given[field];
  if (value === true || value === "true" || value === "1") return true;
  if (value === undefined || value === null || value === false) return false;
  if (value === "false" || value === "0" || value === "") return false;
  throw refused(`${field} must be true or false`);
}

function refused(title: string, detail?: string): RequestRefused {
  return new RequestRefused({
    status: 400,
    code: "INVALID_REQUEST",
    title,
    ...(detail !== undefined && { detail }),
  });
}

function methodRefused(allow: string): RequestRefused {
  return new RequestRefused({
    status: 405,
    code: "METHOD_NOT_ALLOWED",
    title: `Use ${allow}`,
    headers: { allow },
  });
}

import { QueueError } from "../core/errors.ts";
import type { Target } from "./dispatch.ts";

/** Where jobs of one type are sent. What is left out is as for a type without a route. */
export interface Route {
  /** Name of an Edge Function of the project. Not together with `url`. */
  readonly functionName?: string;
  /** Any other address. */
  readonly url?: string;
  readonly method?: "POST" | "PUT";
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  /** How long a function that answers 202 may take to report. */
  readonly reportMs?: number;
  /** How many jobs one call takes at most; more than 1: the function gets them as an array. @default 1 */
  readonly batchSize?: number;
  /** Only jobs of these tenants go this way. @default all */
  readonly tenants?: readonly string[];
}

/** Routes by job type; the first that serves the job's tenant is taken. */
export type Routes = Readonly<Record<string, readonly Route[]>>;

/** What holds for every call. */
export interface RoutingDefaults {
  /** Where the project's functions are: `https://<ref>.supabase.co/functions/v1`. */
  readonly functionsUrl: string;
  /** Sent to functions of the project, and to no other address: credentials. */
  readonly functionHeaders: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly reportMs: number;
  readonly signingSecrets: readonly string[];
}

/** A job can't be sent anywhere. */
export class NoRouteError extends QueueError {
  override readonly name = "NoRouteError";
  readonly code = "NO_ROUTE";
}

/** The routes that come with the library. The first four are as their names say; they stand here to be found. */
export const SHIPPED_ROUTES: Routes = {
  ingest_microsoft: [{ functionName: "ingest-microsoft" }],
  ingest_slack: [{ functionName: "ingest-slack" }],
  process_embeddings: [{ functionName: "process-embeddings" }],
  prioritize_activities: [{ functionName: "prioritize-activities" }],
  generate_digest: [{ functionName: "daily-digest" }],
};

/** The function of a type without a route: `ingest_slack` is handled by `ingest-slack`. */
function functionNameOf(type: string): string {
  return type.replaceAll("_", "-");
}

/**
 * Where a job goes: its type's first route that serves its tenant, else the function named like the type. Throws NoRouteError when the
 * type's routes serve other tenants only, and when no function can have that name.
 */
export function targetOf(
  job: { readonly type: string; readonly tenantId: string | null },
  routes: Routes,
  defaults: RoutingDefaults,
): Target {
  const known = Object.hasOwn(routes, job.type) ? routes[job.type] : undefined;
  const route = known === undefined ? {} : known.find((one) => serves(one, job.tenantId));
  if (route === undefined) {
    throw new NoRouteError(`No route of job type ${job.type} serves this job's tenant`, {
      hint: "Add a route without tenants, or one that names this tenant.",
    });
  }
  const common = {
    method: route.method ?? "POST",
    timeoutMs: route.timeoutMs ?? defaults.timeoutMs,
    reportMs: route.reportMs ?? defaults.reportMs,
    batchSize: route.batchSize ?? 1,
    signingSecrets: defaults.signingSecrets,
  } as const;
  if (route.url !== undefined) {
    const { host } = new URL(route.url);
    return { ...common, functionName: host, url: route.url, headers: { ...route.headers } };
  }
  const functionName = route.functionName ?? functionNameOf(job.type);
  // A type is anyone's text; it must not lead to another path with the project's credentials.
  if (!isFunctionName(functionName)) {
    throw new NoRouteError(`No function can be named ${JSON.stringify(functionName)}`, {
      hint: `Add a route for job type ${job.type} that names a function or a URL.`,
    });
  }
  return {
    ...common,
    functionName,
    url: `${defaults.functionsUrl.replace(/\/+$/, "")}/${functionName}`,
    headers: { ...defaults.functionHeaders, ...route.headers },
  };
}

/** Whether a type without a route can be meant for a function of the same name. */
export function hasNamesake(type: string): boolean {
  return isFunctionName(functionNameOf(type));
}

function isFunctionName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/.test(name);
}

function serves({ tenants }: Route, tenantId: string | null): boolean {
  return tenants === undefined || (tenantId !== null && tenants.includes(tenantId));
}

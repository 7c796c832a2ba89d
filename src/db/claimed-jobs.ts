import { InvalidPayloadError, InvalidResultError } from "../core/errors.ts";
import { findInexact, type InexactNumber } from "../core/exact-json.ts";
import { pathText } from "../core/standard-schema.ts";
import { idsFrom } from "./id-runs.ts";

/** lease, id, type, queue, priority, payload, tenant, attempt, max retries, created, scheduled, options. */
export type ClaimedRow = readonly [
  lease: string,
  id: string,
  type: string,
  queue: string,
  priority: string,
  payload: unknown,
  tenantId: string | null,
  attempt: number,
  maxRetries: number,
  createdAtMs: number,
  scheduledAtMs: number | null,
  options: { readonly timeout_ms?: number } | null,
];

/** Claimed jobs as the database gives them: an array for each column. An array of one stands for the same value in all jobs. */
export interface ClaimedColumns {
  /** The first id, when all others follow on it in this order; then there are no `ids`. */
  readonly first: string | null;
  readonly ids: readonly string[] | null;
  readonly leases: readonly string[];
  readonly attempts: readonly number[];
  /** The order of all further columns; null when it is that of the ids. */
  readonly fact_ids: readonly string[] | null;
  readonly payloads: readonly unknown[];
  readonly types: readonly number[];
  readonly queues: readonly number[];
  /** 0 for none. */
  readonly tenants: readonly number[];
  readonly priorities: readonly number[];
  readonly max_retries: readonly number[];
  readonly created: readonly number[];
  /** Null when no job has a time of its own. */
  readonly scheduled: readonly (number | null)[] | null;
  /** Of the jobs in `with_options`. */
  readonly options: readonly { readonly timeout_ms?: number }[] | null;
  readonly with_options: readonly string[] | null;
  readonly type_names: Readonly<Record<string, string>>;
  readonly queue_names: Readonly<Record<string, string>>;
  readonly tenant_names: Readonly<Record<string, string>> | null;
}

const AS_TEXT = "JavaScript has no room for it. Pass it as a string.";

/** The error for a result with a number that JavaScript would change. */
export function inexactResult({ path, text }: InexactNumber): InvalidResultError {
  return new InvalidResultError(pathText(path), `the number ${shorten(text)} would be changed`, {
    hint: AS_TEXT,
  });
}

function shorten(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

/** Takes the place of a payload with a number that JavaScript would change: its job must not run with another. */
export class InexactPayload {
  readonly #number: InexactNumber;

  constructor(number: InexactNumber) {
    this.#number = number;
  }

  get error(): InvalidPayloadError {
    const { path, text } = this.#number;
    return new InvalidPayloadError(pathText(path), `the number ${shorten(text)} would be changed`, {
      hint: AS_TEXT,
    });
  }
}

/** Marks the payloads of an answer that can't be kept exactly. `leadsTo` are the keys of the array that they are in. */
function replaceInexact(
  text: string,
  leadsTo: readonly string[],
  replace: (at: number, by: InexactPayload) => void,
): void {
  for (const { path, text: number } of findInexact(text)) {
    const at = path[leadsTo.length];
    if (typeof at !== "number" || leadsTo.some((key, place) => path[place] !== key)) continue;
    replace(at, new InexactPayload({ path: path.slice(leadsTo.length + 1), text: number }));
  }
}

/** The columns as the text of an answer gives them, whose `jobs` they are. */
export function markInexact(text: string, columns: ClaimedColumns | null): void {
  const payloads = columns?.payloads as unknown[] | undefined;
  if (payloads)
    replaceInexact(text, ["jobs", "payloads"], (at, by) => {
      payloads[at] = by;
    });
}

/** A job that the enqueue leased to a sleeping worker. Times in milliseconds by the database's clock. */
export interface Offer {
  readonly now: number;
  readonly expires_at: number;
  readonly job: ClaimedRow;
}

/** Reads what `queue.offer` sends; null for anything else. */
export function readOffer(payload: string): Offer | null {
  if (!payload.startsWith("{")) return null;
  try {
    const offer = JSON.parse(payload) as Partial<Offer>;
    const job = offer.job as unknown[] | undefined;
    if (!Array.isArray(job)) return null;
    replaceInexact(payload, ["job"], (at, by) => {
      if (at === PAYLOAD) job[at] = by;
    });
    return offer as Offer;
  } catch {
    return null;
  }
}

/** Its place in a row. */
const PAYLOAD = 5;

const PRIORITIES = ["critical", "high", "normal", "low"] as const;

/** The jobs one by one, in the order to run them. */
export function toRows(columns: ClaimedColumns | null): ClaimedRow[] {
  if (columns === null) return [];
  const { fact_ids: factIds, payloads, scheduled } = columns;
  const ids = columns.ids ?? idsFrom(columns.first ?? "0", payloads.length);
  const lease = reader(columns.leases);
  const attempt = reader(columns.attempts);
  const type = named(columns.types, columns.type_names);
  const queue = named(columns.queues, columns.queue_names);
  const tenant = named(columns.tenants, columns.tenant_names ?? {});
  const priority = reader(columns.priorities.map((rank) => PRIORITIES[rank] ?? "normal"));
  const maxRetries = reader(columns.max_retries);
  const created = reader(columns.created);
  const options = new Map(columns.with_options?.map((id, at) => [id, columns.options?.[at]]));
  const places = factIds && new Map(factIds.map((id, at) => [id, at]));
  const rows: ClaimedRow[] = [];
  for (let at = 0; at < ids.length; at += 1) {
    const id = ids[at] as string;
    const place = places ? places.get(id) : at;
    // Without its facts there is nothing to run: its lease runs out, as for any job that is not answered for.
    if (place === undefined) continue;
    rows.push([
      lease(at),
      id,
      type(place) ?? "",
      queue(place) ?? "",
      priority(place),
      payloads[place],
      tenant(place) ?? null,
      attempt(at),
      maxRetries(place),
      created(place),
      scheduled?.[place] ?? null,
      options.get(id) ?? null,
    ]);
  }
  return rows;
}

function reader<T>(column: readonly T[]): (at: number) => T {
  const [first] = column;
  return column.length === 1 ? () => first as T : (at) => column[at] as T;
}

function named(
  column: readonly number[],
  names: Readonly<Record<string, string>>,
): (at: number) => string | undefined {
  if (column.length > 1) return (at) => names[column[at] as number];
  const name = names[column[0] as number];
  return () => name;
}

/** What a job of a campaign has and no other: by it everything that is found under the job's id is known as its own. */
export interface Identity {
  readonly nonce: string;
  readonly type: string;
  readonly tenant: string | null;
  /** Over all of the payload but itself. */
  readonly sum: number;
}

export interface Identified {
  readonly who: Identity;
}

/** What a handler was told about the job that it runs. */
export interface Told {
  readonly id: string;
  readonly type: string;
  readonly tenantId: string | null;
  readonly attempt: number;
  readonly lease: string;
  /** The worker's name in the database. */
  readonly worker: string;
}

/** One attempt as its handler saw it begin. */
export interface Sighting extends Told {
  readonly nonce: string;
  /** Milliseconds of the epoch. */
  readonly at: number;
  /** What contradicts itself in what the handler was given. */
  readonly wrong?: string;
}

/** An acknowledged enqueue: the id that the producer was told for a payload. */
export interface Acknowledgement {
  readonly id: string;
  readonly nonce: string;
}

/** A payload with its job's identity. */
export function identify<Body extends object>(
  nonce: string,
  { type, tenant }: { readonly type: string; readonly tenant: string | null },
  body: Body,
): Body & Identified {
  return { ...body, who: { nonce, type, tenant, sum: sumOf({ ...body, nonce, type, tenant }) } };
}

/** What a handler writes down when it begins: before anything else, so that what it holds is known however it ends. */
export function sight(payload: unknown, told: Told): Sighting {
  const at = Date.now();
  if (!isIdentified(payload)) return { ...told, nonce: "", at, wrong: "a payload of nobody" };
  const { who, ...body } = payload;
  const { nonce, type, tenant } = who;
  const wrong = [
    type !== told.type && `the payload of a ${type} came as ${told.type}`,
    tenant !== told.tenantId && `the payload of ${tenant} came as that of ${told.tenantId}`,
    who.sum !== sumOf({ ...body, nonce, type, tenant }) && "the payload was changed",
  ].filter((words) => words !== false);
  return { ...told, nonce, at, ...(wrong.length > 0 && { wrong: wrong.join("; ") }) };
}

/** What an attempt leaves behind wherever it can, in results, notes and progress, to be compared with the row it is found in. */
export interface Signature {
  readonly nonce: string;
  readonly lease: string;
  readonly attempt: number;
  readonly worker: string;
}

export function signatureOf({ nonce, lease, attempt, worker }: Sighting): Signature {
  return { nonce, lease, attempt, worker };
}

/** The text of a planned failure, from which the audit reads whose it is. */
export function plannedFailure({ nonce, lease }: Sighting): string {
  return `planned failure of ${nonce} under ${lease}`;
}

function isIdentified(payload: unknown): payload is Identified {
  const who = (payload as Partial<Identified> | null)?.who;
  return typeof who === "object" && typeof who.nonce === "string";
}

/** The same however the database orders the keys. FNV-1a. */
function sumOf(value: unknown): number {
  let sum = 0x811c9dc5;
  for (const char of stable(value)) {
    sum = Math.imul(sum ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  }
  return sum;
}

function stable(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(stable).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${stable(inner)}`).join()}}`;
}

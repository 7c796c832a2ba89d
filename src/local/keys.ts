import { createHmac, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LocalPlatformError } from "./errors.ts";

/** The secrets of a project folder. Random, and worth nothing anywhere else. */
export interface LocalKeys {
  /** `sb_publishable_…` */
  readonly publishableKey: string;
  /** `sb_secret_…` */
  readonly secretKey: string;
  /** A JWT of role `anon`, as Supabase's legacy keys are. */
  readonly anonKey: string;
  /** A JWT of role `service_role`. */
  readonly serviceRoleKey: string;
  /** What signs the two. */
  readonly jwtSecret: string;
  /** Wakes the queue worker, and can do nothing else. */
  readonly workerToken: string;
  /** `whsec_…`: signs what is sent to functions. */
  readonly signingSecret: string;
  /** Signs the tokens of callbacks. */
  readonly callbackSecret: string;
}

const FILE = "functions.json";

/**
 * The keys in `<stateDir>/functions.json`, made at the first call. Only its owner may read the file, and a `.gitignore` beside it
 * keeps it out of repositories. Rejects with LOCAL_KEYS_UNUSABLE when the file is there but holds something else.
 */
export async function localKeys(stateDir: string): Promise<LocalKeys> {
  const path = join(stateDir, FILE);
  try {
    const known = await readKeys(path);
    if (known) return known;
    const keys = makeKeys();
    await mkdir(stateDir, { recursive: true });
    await writeFile(join(stateDir, ".gitignore"), "*\n", { flag: "wx" }).catch(ifExists);
    // Written aside, so that nobody reads half of it.
    const aside = `${path}.${randomBytes(4).toString("hex")}`;
    await writeFile(aside, JSON.stringify(keys, undefined, 2), { mode: 0o600 });
    await rename(aside, path);
    return (await readKeys(path)) ?? keys;
  } catch (cause) {
    if (cause instanceof LocalPlatformError) throw cause;
    throw unusable(path, cause);
  }
}

async function readKeys(path: string): Promise<LocalKeys | undefined> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const value: unknown = JSON.parse(text);
  if (isKeys(value)) return value;
  throw unusable(path);
}

function isKeys(value: unknown): value is LocalKeys {
  if (typeof value !== "object" || value === null) return false;
  const record = value as Record<string, unknown>;
  return Object.keys(makeKeys()).every(
    (name) => typeof record[name] === "string" && record[name] !== "",
  );
}

function makeKeys(): LocalKeys {
  const jwtSecret = token(32);
  return {
    publishableKey: `sb_publishable_${token(24)}`,
    secretKey: `sb_secret_${token(24)}`,
    anonKey: signJwt(jwtSecret, "anon"),
    serviceRoleKey: signJwt(jwtSecret, "service_role"),
    jwtSecret,
    workerToken: token(32),
    signingSecret: `whsec_${randomBytes(32).toString("base64")}`,
    callbackSecret: token(32),
  };
}

function token(bytes: number): string {
  return randomBytes(bytes).toString("base64url");
}

/** Ten years, as Supabase's own legacy keys. */
const LIFE_SECONDS = 10 * 365 * 24 * 3600;

function signJwt(secret: string, role: "anon" | "service_role"): string {
  const issuedAt = Math.floor(Date.now() / 1000);
  const claims = {
    iss: "millrace",
    ref: "local",
    role,
    iat: issuedAt,
    exp: issuedAt + LIFE_SECONDS,
  };
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString("base64url");
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

function ifExists(error: unknown): void {
  if (codeOf(error) !== "EEXIST") throw error;
}

function codeOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}

function unusable(path: string, cause?: unknown): LocalPlatformError {
  return new LocalPlatformError(
    "LOCAL_KEYS_UNUSABLE",
    `${path}, which keeps the keys of local functions, can't be read or written`,
    "Remove the file: new keys are made. Or run as the account that owns the folder",
    cause,
  );
}

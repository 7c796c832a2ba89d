import { createHmac } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { freePort } from "../../src/embedded/free-port.ts";
import type { TestDatabase } from "../support/database.ts";
import { spawnProcess } from "../support/processes.ts";

const PUBLISHABLE_KEY = "sb_publishable_for_tests";
const SECRET_KEY = "sb_secret_for_tests";
const JWT_SECRET = "a secret for the tokens of tests, long enough";

/** Supabase's API in front of a database, as far as `@supabase/lite` has it: PostgREST and API keys. On the loopback interface only. */
export interface LiteServer {
  /** A backend, with the secret key. */
  service(): SupabaseClient;
  /** A browser in which nobody signed in. */
  anon(): SupabaseClient;
  /** A browser with a user's token of these claims; `secret` signs it. */
  user(claims: Readonly<Record<string, unknown>>, secret?: string): SupabaseClient;
  stop(): Promise<void>;
}

/**
 * Starts it on a database, where it makes the schema `auth`. It signs in as the superuser and takes the role of each request's token or
 * key: unlike PostgREST, it reads the tables and sequences behind the views before it changes its role.
 */
export async function startLite({ superUrl }: TestDatabase): Promise<LiteServer> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-lite-"));
  const port = await freePort();
  await mkdir(join(folder, "supabase"));
  await writeFile(join(folder, "supabase/config.toml"), configuration(port, superUrl));
  const cli = fileURLToPath(new URL("./cli/index.js", import.meta.resolve("@supabase/lite")));
  const program = spawnProcess(process.execPath, {
    args: [cli, "--no-telemetry", "start", "--no-admin"],
    cwd: folder,
    env: { LITE_TELEMETRY: "0", DO_NOT_TRACK: "1", HOME: folder },
  });
  const stop = async (): Promise<void> => {
    await program.kill("SIGTERM");
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await program.waitFor(`http://127.0.0.1:${port}`);
  } catch (error) {
    await stop();
    throw error;
  }
  const client = (key: string, token?: string): SupabaseClient =>
    createClient(`http://127.0.0.1:${port}`, key, {
      auth: { persistSession: false, autoRefreshToken: false },
      ...(token !== undefined && { accessToken: async () => token }),
      // The client wants a WebSocket at its start, which Node 20 has not; nothing here opens one.
      realtime: { transport: NoWebSocket as never },
    });
  return {
    service: () => client(SECRET_KEY),
    anon: () => client(PUBLISHABLE_KEY),
    user: (claims, secret = JWT_SECRET) => client(PUBLISHABLE_KEY, signToken(claims, secret)),
    stop,
  };
}

class NoWebSocket {}

function configuration(port: number, databaseUrl: string): string {
  return `
[api]
port = ${port}
schemas = ["public"]

[db]
driver = "postgres"
url = ${JSON.stringify(databaseUrl)}

[auth]
enabled = true
jwt_secret = ${JSON.stringify(JWT_SECRET)}
publishable_key = ${JSON.stringify(PUBLISHABLE_KEY)}
secret_key = ${JSON.stringify(SECRET_KEY)}
`;
}

/** An HS256 token, as Supabase's legacy JWT secret makes them. */
function signToken(claims: Readonly<Record<string, unknown>>, secret: string): string {
  const now = Math.floor(Date.now() / 1000);
  const body = {
    aud: "authenticated",
    role: "authenticated",
    iat: now,
    exp: now + 3600,
    ...claims,
  };
  const text = [{ alg: "HS256", typ: "JWT" }, body]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

import {
  Agent,
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { join } from "node:path";
import { pause } from "../core/signals.ts";
import type { Deno } from "./deno.ts";
import { type Environment, functionEnvironment } from "./environment.ts";
import { LocalPlatformError } from "./errors.ts";
import { findFunctions } from "./find-functions.ts";
import { type FunctionEvent, FunctionHost } from "./function-host.ts";
import type { LocalKeys } from "./keys.ts";
import { type Passed, passOn } from "./pass-on.ts";

export interface FunctionsServerOptions {
  /** The folder that holds `supabase/functions/`; functions may read it. */
  readonly projectDir: string;
  readonly deno: Deno;
  readonly keys: LocalKeys;
  /** What functions get as SUPABASE_DB_URL. */
  readonly databaseUrl: string;
  /** The machine's environment, of which functions get what Deno needs. */
  readonly env: Environment;
  /** Taken if it is free, else any. @default 54321, where Supabase's own local gateway listens */
  readonly preferredPort?: number;
  /** This and no other. */
  readonly port?: number | undefined;
  readonly onEvent?: (event: FunctionEvent) => void;
  /** How long requests and background work may go on when a function is to end. @default 5_000 */
  readonly graceMs?: number;
}

/** Serves the functions of a project, as Supabase's gateway does, to this machine alone. */
export interface FunctionsServer {
  /** What functions get as SUPABASE_URL: `http://127.0.0.1:54321`. */
  readonly url: string;
  /** `…/functions/v1`. */
  readonly functionsUrl: string;
  /** The names of the functions that are there now. */
  names(): Promise<readonly string[]>;
  /** Starts a function before its first request. Never rejects; a failure is an event. */
  warm(name: string): Promise<void>;
  /** Ends all functions. Twice is fine. */
  stop(options?: { isForced?: boolean }): Promise<void>;
}

const USUAL_PORT = 54_321;
const PREFIX = "/functions/v1/";
/** Supabase gives up on a request that has no answer by then. */
const IDLE_MS = 150_000;
/** How often files are looked at: events of the file system get lost on network folders and in containers. */
const LOOK_MS = 300;

/** Starts to serve `supabase/functions/*`. Rejects with FUNCTIONS_PORT_IN_USE. */
export async function startFunctionsServer(
  options: FunctionsServerOptions,
): Promise<FunctionsServer> {
  const functionsDir = join(options.projectDir, "supabase", "functions");
  const stopped = new AbortController();
  const agent = new Agent({ keepAlive: true });
  const hosts = new Map<string, FunctionHost>();
  const server = createServer((incoming, outgoing) => void answer(incoming, outgoing));
  // A function may think for as long as it likes, and so may who calls it.
  server.requestTimeout = 0;
  const url = `http://127.0.0.1:${await listen(server, options)}`;

  function hostOf(name: string): FunctionHost {
    const known = hosts.get(name);
    if (known) return known;
    const host = new FunctionHost(name, {
      deno: options.deno,
      projectDir: options.projectDir,
      functionsDir,
      environment: (fn) =>
        functionEnvironment({ ...options, functionsDir, functionDir: fn.dir, url }),
      onEvent: (event) => options.onEvent?.(event),
      graceMs: options.graceMs ?? 5_000,
    });
    hosts.set(name, host);
    return host;
  }

  async function answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const target = incoming.url ?? "/";
    // Not every target of a request is a URL: "//" is none.
    if (!URL.canParse(target, url)) return refuse(outgoing, NOT_SERVED);
    const { pathname, search } = new URL(target, url);
    if (!pathname.startsWith(PREFIX)) return refuse(outgoing, NOT_SERVED);
    const path = pathname.slice(PREFIX.length - 1);
    const name = path.split("/")[1] ?? "";
    if (stopped.signal.aborted) return refuse(outgoing, BOOT_ERROR);
    try {
      const held = await hostOf(name).hold();
      if (!held) {
        hosts.delete(name);
        return refuse(outgoing, NOT_FOUND);
      }
      const { port } = held.process;
      const passed = await passOn(incoming, outgoing, {
        port,
        agent,
        path: `${path}${search}`,
        idleMs: IDLE_MS,
      });
      held.release();
      if (passed !== "answered" && passed !== "left") refuse(outgoing, REFUSALS[passed]);
    } catch {
      refuse(outgoing, BOOT_ERROR);
    }
  }

  async function look(): Promise<void> {
    while (!stopped.signal.aborted) {
      await Promise.all([...hosts.values()].map((host) => host.refresh()));
      await pause(LOOK_MS, stopped.signal);
    }
  }
  const looking = look();

  return {
    url,
    functionsUrl: `${url}${PREFIX.slice(0, -1)}`,
    names: async () => (await findFunctions(functionsDir)).map(({ name }) => name),
    async warm(name) {
      await hostOf(name)
        .hold()
        .then(
          (held) => held?.release(),
          () => undefined,
        );
    },
    async stop(how) {
      stopped.abort();
      server.close();
      await Promise.all([...hosts.values()].map((host) => host.stop(how)));
      await looking;
      // What refresh() may have started while they were stopped.
      await Promise.all([...hosts.values()].map((host) => host.stop(how)));
      server.closeAllConnections();
      agent.destroy();
    },
  };
}

interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}

/** In the words of Supabase's gateway. */
const NOT_FOUND: Refusal = {
  status: 404,
  code: "NOT_FOUND",
  message: "Requested function was not found",
};
const BOOT_ERROR: Refusal = {
  status: 503,
  code: "BOOT_ERROR",
  message: "Function failed to start (please check logs)",
};
const REFUSALS: Readonly<Record<Exclude<Passed, "answered" | "left">, Refusal>> = {
  failed: {
    status: 500,
    code: "WORKER_ERROR",
    message: "Function exited due to an error (please check logs)",
  },
  "timed-out": {
    status: 504,
    code: "IDLE_TIMEOUT",
    message: "Request was not answered within 150 seconds",
  },
};
const NOT_SERVED: Refusal = {
  status: 404,
  code: "NOT_SERVED",
  message: "Only /functions/v1/ is served here; REST, Auth and Storage need Supabase itself",
};

function refuse(outgoing: ServerResponse, { status, code, message }: Refusal): void {
  if (outgoing.headersSent || outgoing.destroyed) return;
  outgoing.writeHead(status, { "content-type": "application/json", "sb-error-code": code });
  outgoing.end(JSON.stringify({ code, message }));
}

async function listen(
  server: Server,
  { port, preferredPort = USUAL_PORT }: FunctionsServerOptions,
): Promise<number> {
  const attempts = port === undefined ? [preferredPort, 0] : [port];
  for (const attempt of attempts) {
    const bound = await tryListen(server, attempt);
    if (bound !== undefined) return bound;
  }
  throw new LocalPlatformError(
    "FUNCTIONS_PORT_IN_USE",
    `Port ${port} is in use, and functions were to be served there`,
    "Give another port, or none: then a free one is taken",
  );
}

function tryListen(server: Server, port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const onError = (): void => resolve(undefined);
    server.once("error", onError);
    server.listen(port, "127.0.0.1", () => {
      server.removeListener("error", onError);
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : undefined);
    });
  });
}

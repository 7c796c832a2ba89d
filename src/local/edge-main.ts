/**
 * Runs under Deno, one process for each function: loads the function and serves it on a loopback port that is told on stdout. Stands in
 * for the globals of Supabase's runtime that `deno run` has not. Not part of the library: nothing imports it.
 *
 * Arguments: the function's URL, a word that nobody can guess and that begins our own lines, and how long background work may go on
 * after stdin was closed, which is the request to end (and what happens when the parent is killed).
 */

type Handler = (request: Request, info: unknown) => Response | Promise<Response>;

interface Server {
  shutdown(): Promise<void>;
}

interface ServeOptions {
  handler?: Handler;
  fetch?: Handler;
  [option: string]: unknown;
}

interface DenoNamespace {
  readonly args: readonly string[];
  readonly stdin: { readonly readable: ReadableStream<Uint8Array> };
  serve(options: ServeOptions, handler: Handler): Server;
  addSignalListener(signal: "SIGINT", listener: () => void): void;
  exit(code: number): never;
}

interface EdgeGlobals {
  readonly Deno: DenoNamespace;
  EdgeRuntime: { waitUntil(work: Promise<unknown>): void };
}

const edge = globalThis as unknown as EdgeGlobals;
const deno = edge.Deno;
const [entry = "", word = "", grace = "0"] = deno.args;
/** A module may call Deno.serve() a little after it was loaded. */
const SERVE_WITHIN_MS = 2_000;
/** What a listener of `beforeunload` began has at least so long, handed to waitUntil or not. */
const LEAST_GRACE_MS = 250;

const servers: Server[] = [];
const background = new Set<Promise<unknown>>();

const serveOriginally = deno.serve.bind(deno);
deno.serve = (...args: readonly unknown[]): Server => {
  const options = args.find((one): one is ServeOptions => typeof one === "object" && one !== null);
  const handler =
    args.find((one): one is Handler => typeof one === "function") ??
    options?.handler ??
    options?.fetch;
  if (!handler) throw new TypeError("Deno.serve() needs a handler");
  const server = serveOriginally(
    {
      ...options,
      hostname: "127.0.0.1",
      port: 0,
      onListen: ({ port }: { port: number }) => console.log(`${word} ${port}`),
    },
    handler,
  );
  servers.push(server);
  return server;
};

edge.EdgeRuntime = {
  waitUntil(work) {
    const kept = Promise.resolve(work)
      .catch((error: unknown) => console.error("background work failed:", error))
      .finally(() => background.delete(kept));
    background.add(kept);
  },
};

// Ctrl-C reaches every process of the terminal; the end is the parent's to call.
deno.addSignalListener("SIGINT", () => undefined);
void endWithStdin();

const module = await load();
const handler = module.default?.fetch;
if (servers.length === 0 && typeof handler === "function") {
  deno.serve({}, (request, info) => handler.call(module.default, request, info));
}
setTimeout(() => {
  if (servers.length > 0) return;
  console.error("The function neither calls Deno.serve() nor exports default { fetch }");
  deno.exit(1);
}, SERVE_WITHIN_MS);

/** What goes wrong is told without our own lines in it. */
async function load(): Promise<{ default?: { fetch?: Handler } }> {
  try {
    return await import(entry);
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const lines = text.split("\n").filter((line) => !line.includes(import.meta.url));
    console.error(`The function can't be loaded: ${lines.join("\n")}`);
    return deno.exit(1);
  }
}

/** Tells the function, lets requests and background work end, and ends. */
async function endWithStdin(): Promise<void> {
  const reader = deno.stdin.readable.getReader();
  while (!(await reader.read()).done);
  globalThis.dispatchEvent(new CustomEvent("beforeunload", { detail: { reason: "termination" } }));
  setTimeout(() => deno.exit(0), Number(grace));
  await Promise.all([
    ...servers.map((server) => server.shutdown()),
    new Promise((resolve) => setTimeout(resolve, Math.min(LEAST_GRACE_MS, Number(grace)))),
  ]);
  while (background.size > 0) await Promise.all(background);
  deno.exit(0);
}

export {};

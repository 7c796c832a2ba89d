import { type Agent, type IncomingMessage, request, type ServerResponse } from "node:http";
import { pipeline } from "node:stream";

/** Where a request goes. */
export interface Target {
  /** On 127.0.0.1. */
  readonly port: number;
  /** Path and query, as the function is to see them. */
  readonly path: string;
  readonly agent: Agent;
  /** How long it may take until the answer begins. */
  readonly idleMs: number;
}

/** What became of it: `failed` when no answer came, and none was given. */
export type Passed = "answered" | "failed" | "timed-out" | "left";

/** They belong to one connection and are not handed on. */
const HOP_BY_HOP = [
  "connection",
  "expect",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/**
 * Hands a request on and its answer back, both as streams, with status and headers as they are. Resolves when that is over; a caller
 * that leaves ends it. Never rejects.
 */
export function passOn(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { port, path, agent, idleMs }: Target,
): Promise<Passed> {
  return new Promise((resolve) => {
    const upstream = request({
      host: "127.0.0.1",
      port,
      path,
      agent,
      method: incoming.method,
      headers: { ...without(incoming), ...forwarded(incoming) },
    });
    const patience = setTimeout(() => finish("timed-out"), idleMs);
    const finish = (passed: Passed): void => {
      clearTimeout(patience);
      if (passed !== "answered") upstream.destroy();
      resolve(passed);
    };
    outgoing.once("close", () => finish(outgoing.writableFinished ? "answered" : "left"));
    upstream.once("error", () => {
      if (outgoing.headersSent) outgoing.destroy();
      else finish("failed");
    });
    upstream.once("response", (answer) => {
      clearTimeout(patience);
      outgoing.writeHead(answer.statusCode ?? 502, answer.statusMessage, rawWithout(answer));
      outgoing.flushHeaders();
      pipeline(answer, outgoing, () => undefined);
    });
    // Not a pipeline: when the function fails, the caller must still get an answer.
    incoming.pipe(upstream);
  });
}

function without({ headers }: IncomingMessage): NodeJS.Dict<string | string[]> {
  const kept = { ...headers };
  for (const name of HOP_BY_HOP) delete kept[name];
  return kept;
}

/** Names and values in turn, so that headers that stand there twice stay two. */
function rawWithout({ rawHeaders }: IncomingMessage): string[] {
  const kept: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? "";
    if (!HOP_BY_HOP.includes(name.toLowerCase())) kept.push(name, rawHeaders[at + 1] ?? "");
  }
  return kept;
}

function forwarded({ headers, socket }: IncomingMessage): Record<string, string> {
  return {
    "x-forwarded-for": String(headers["x-forwarded-for"] ?? socket.remoteAddress ?? "127.0.0.1"),
    "x-forwarded-host": String(headers["x-forwarded-host"] ?? headers.host ?? "127.0.0.1"),
    "x-forwarded-proto": String(headers["x-forwarded-proto"] ?? "http"),
  };
}

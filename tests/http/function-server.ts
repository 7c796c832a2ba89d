/** Stands in for the project's functions: a real HTTP server that answers as it is told and remembers what it was asked. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface HeardCall {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface FunctionServer {
  /** Where functions are: `http://127.0.0.1:<port>/functions/v1`. */
  readonly url: string;
  readonly heard: HeardCall[];
  /** Answers the calls from now on. */
  answer(handle: (call: HeardCall, response: ServerResponse) => void): void;
  close(): Promise<void>;
}

export async function startFunctionServer(): Promise<FunctionServer> {
  const heard: HeardCall[] = [];
  let handle = (_call: HeardCall, response: ServerResponse): void => {
    response.writeHead(200).end();
  };
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => {
      body += part.toString();
    });
    request.on("end", () => {
      const call = { path: request.url ?? "", headers: request.headers, body };
      heard.push(call);
      handle(call, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/functions/v1`,
    heard,
    answer(next) {
      handle = next;
    },
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** Answers with JSON. */
export function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

/** Stands in for the project's functions: answers as it is told at the moment. */
import type { ServerResponse } from "node:http";
import { type Heard, sendJson, startHttpServer } from "../support/http-server.ts";

export { sendJson as reply };

export interface FunctionServer {
  /** Where functions are: `http://127.0.0.1:<port>/functions/v1`. */
  readonly url: string;
  readonly heard: Heard[];
  /** Answers the calls from now on. */
  answer(handle: (call: Heard, response: ServerResponse) => void): void;
  close(): void;
}

export async function startFunctionServer(): Promise<FunctionServer> {
  let handle = (_call: Heard, response: ServerResponse): void => {
    response.writeHead(200).end();
  };
  const { url, heard, close } = await startHttpServer((call, response) => handle(call, response));
  return {
    url: `${url}/functions/v1`,
    heard,
    answer(next) {
      handle = next;
    },
    close,
  };
}

/** One of the functions under Deno, with real HTTP servers in the place of everything it calls. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { signWebhook } from "../../src/http/webhook-signature.ts";
import { eventually } from "../support/eventually.ts";
import { type Heard, type HttpServer, sendJson, startHttpServer } from "../support/http-server.ts";
import { spawnProcess, type TestProcess } from "../support/processes.ts";

const DENO = fileURLToPath(new URL("../../node_modules/.bin/deno", import.meta.url));
const FUNCTIONS = fileURLToPath(new URL("../../supabase/functions/", import.meta.url));
const SERVICE_KEY = "service.role.jwt";

export interface RigOptions {
  /** Of the folder. */
  readonly name: string;
  /** The variables that name the upstream, and its token's. */
  readonly urlName: string;
  readonly tokenName: string;
  /** Prefix of the variables that name the sink; without one nothing is stored. */
  readonly sinkPrefix?: string;
  /** Calls must be signed with it. */
  readonly signingSecret?: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // What a test expects, it says.
  readonly body: Record<string, unknown>;
}

export type Answering = (heard: Heard, response: ServerResponse) => void;

export interface SendOptions {
  readonly id?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Rig {
  readonly options: RigOptions;
  /** What the upstream's token is. */
  readonly token: string;
  /** What the upstream answers from now on in this test. */
  answer: Answering;
  /** Everything the upstream got in this test. */
  upstream(): readonly Heard[];
  upstreamUrl(): string;
  /** Everything that was stored in this test. */
  stored(): readonly Heard[];
  /** What the newest job reported first. It may come after the answer: nobody waits for progress. */
  firstReport(): Promise<Record<string, unknown>>;
  send(payload: unknown, options?: SendOptions): Promise<Answer>;
}

/** Starts the function once for all tests of the file that calls it. */
export function functionRig(options: RigOptions): Rig {
  const token = `${options.name}-token-that-nobody-may-see`;
  let upstream: HttpServer;
  let sink: HttpServer;
  let queue: HttpServer;
  let program: TestProcess;
  let url = "";
  let jobs = 0;

  const rig: Rig = {
    options,
    token,
    answer: unexpected,
    upstream: () => upstream.heard,
    upstreamUrl: () => `${upstream.url}/api`,
    stored: () => sink.heard,
    async firstReport() {
      const path = `/report/${jobs}`;
      const report = await eventually(() => queue.heard.find((one) => one.path === path));
      return JSON.parse(report.body);
    },
    async send(payload, { id = "42", method = "POST", headers } = {}) {
      jobs += 1;
      const body = JSON.stringify({
        id,
        type: options.name.replaceAll("-", "_"),
        attempt: 1,
        max_attempts: 4,
        tenant_id: "acme",
        payload,
        callback: { url: `${queue.url}/report/${jobs}`, token: "t0ken" },
      });
      const response = await fetch(url, {
        method,
        headers: headers ?? (await credentials(body)),
        ...(method !== "GET" && { body }),
      });
      return {
        status: response.status,
        headers: response.headers,
        body: (await response.json()) as Record<string, unknown>,
      };
    },
  };

  async function credentials(body: string): Promise<Record<string, string>> {
    const secret = options.signingSecret;
    if (secret === undefined) return { authorization: `Bearer ${SERVICE_KEY}` };
    return { ...(await signWebhook({ id: "job_42_1", body, sentAt: new Date() }, [secret])) };
  }

  before(async () => {
    upstream = await startHttpServer((heard, response) => rig.answer(heard, response));
    sink = await startHttpServer((_heard, response) => response.writeHead(204).end());
    queue = await startHttpServer((_heard, response) => sendJson(response, 200, {}));
    program = serve(options, token, { upstream: rig.upstreamUrl(), sink: `${sink.url}/in?x=1` });
    const line = await program.waitFor(/Listening on http:\/\/127\.0\.0\.1:\d+/);
    url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0] ?? "";
  });
  beforeEach(() => {
    for (const { heard } of [upstream, sink, queue]) heard.length = 0;
    rig.answer = unexpected;
  });
  after(async () => {
    for (const server of [upstream, sink, queue]) server.close();
    await program.kill();
    assert.ok(!program.output().includes(token), "the token was printed");
    assert.ok(!program.output().includes(SERVICE_KEY), "the service's key was printed");
  });
  return rig;
}

/** As Supabase would, but that nothing is fetched and nobody outside of this machine is reached. */
function serve(
  { name, urlName, tokenName, sinkPrefix, signingSecret }: RigOptions,
  token: string,
  urls: { readonly upstream: string; readonly sink: string },
): TestProcess {
  const args = ["serve", "--no-check", "--cached-only", "--no-lock", "--node-modules-dir=manual"];
  args.push("--config", `${FUNCTIONS}${name}/deno.json`, "--allow-env", "--allow-net=127.0.0.1");
  args.push("--host", "127.0.0.1", "--port", "0", `${FUNCTIONS}${name}/index.ts`);
  return spawnProcess(DENO, {
    args,
    env: {
      NO_COLOR: "1",
      DENO_NO_UPDATE_CHECK: "1",
      [urlName]: urls.upstream,
      [tokenName]: token,
      SUPABASE_SERVICE_ROLE_KEY: SERVICE_KEY,
      QUEUE_SIGNING_SECRETS: signingSecret,
      ...(sinkPrefix !== undefined && { [`${sinkPrefix}_SINK_URL`]: urls.sink }),
    },
  });
}

const unexpected: Answering = (heard, response) => {
  sendJson(response, 404, { error: { message: `nobody expected ${heard.path}` } });
};

/** What all of the functions have in common. `payload` is one that leads to a call of the upstream. */
export function behavesLikeAFunction(
  rig: Rig,
  payload: unknown,
  wrong: { readonly payload: unknown; readonly message: RegExp },
): void {
  const { tokenName } = rig.options;

  test("a payload that does not fit is refused with its place, and nobody is called", async () => {
    const { status, headers, body } = await rig.send(wrong.payload);

    assert.deepEqual([status, body["code"]], [422, "INVALID_PAYLOAD"]);
    assert.equal(headers.get("content-type"), "application/problem+json");
    assert.match(String(body["title"]), wrong.message);
    assert.equal(rig.upstream().length, 0);
  });

  test("who has no credentials is refused, and so is another method", async () => {
    assert.equal((await rig.send(payload, { headers: {} })).status, 401);
    assert.equal(
      (await rig.send(payload, { headers: { authorization: "Bearer no" } })).status,
      401,
    );
    assert.equal((await rig.send(payload, { method: "GET" })).status, 405);
    assert.equal((await rig.send(payload, { method: "DELETE" })).status, 405);
    assert.equal(rig.upstream().length, 0);
  });

  test("a busy upstream is one to come back to, when it says", async () => {
    for (const [status, said, expected] of [
      [429, { "retry-after": "17" }, "17"],
      [503, {}, "30"],
    ] as const) {
      rig.answer = (_heard, response) => sendJson(response, status, {}, said);

      const answer = await rig.send(payload);

      assert.deepEqual([answer.status, answer.body["code"]], [503, "RETRY_LATER"]);
      assert.equal(answer.headers.get("retry-after"), expected);
    }
  });

  test("an upstream that refuses our credentials is named with the variable to look at", async () => {
    for (const status of [401, 403]) {
      rig.answer = ({ headers }, response) => sendJson(response, status, { echo: headers });

      const answer = await rig.send(payload);

      assert.deepEqual([answer.status, answer.body["code"]], [422, "JOB_REFUSED"]);
      const title = String(answer.body["title"]);
      assert.ok(title.endsWith(`refused our credentials (${status}): check ${tokenName}`), title);
    }
  });

  test("an upstream that fails is tried again; one that refuses is not; no token is repeated", async () => {
    for (const [status, expected] of [
      [500, 500],
      [400, 422],
    ]) {
      rig.answer = ({ headers }, response) => {
        sendJson(response, status ?? 0, { error: `bad: ${headers.authorization}` });
      };

      const answer = await rig.send(payload);

      assert.equal(answer.status, expected);
      assert.match(String(answer.body["title"]), / answered \d+: .*bad: Bearer …/);
      assert.ok(!JSON.stringify(answer.body).includes(rig.token));
    }
  });

  test("the upstream is called with the token that is set for it", async () => {
    await rig.send(payload);

    assert.equal(rig.upstream()[0]?.headers.authorization, `Bearer ${rig.token}`);
  });
}

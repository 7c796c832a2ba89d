import assert from "node:assert/strict";
import { request } from "node:http";
import { createServer } from "node:net";
import { after, before, describe, it } from "node:test";
import { isAlive } from "../../src/embedded/process-alive.ts";
import { eventually } from "../support/eventually.ts";
import { makeProject, type Project, type Served, serve } from "./project.ts";

const FILES = {
  "_shared/greet.ts": "export const greet = (name: string): string => 'hello ' + name;\n",
  "classic/deno.json": '{ "imports": { "shared/": "../_shared/" } }\n',
  "classic/index.ts": `
    import { greet } from "shared/greet.ts";
    Deno.serve(async (request) => {
      const { pathname, search, host } = new URL(request.url);
      return new Response(greet(await request.text()), {
        status: 418,
        headers: {
          "x-seen": [request.method, pathname + search, request.headers.get("x-given")].join(" "),
          "x-host": host,
          "set-cookie": "a=1",
        },
      });
    });`,
  "modern/index.ts": "export default { fetch: () => Response.json({ ok: true }) };\n",
  "trickle/index.ts": `
    let go = (): void => undefined;
    export default {
      fetch(request: Request): Response {
        if (request.method === "PUT") { go(); return new Response(null, { status: 204 }); }
        request.signal.addEventListener("abort", () => console.log("the caller left"));
        const encoder = new TextEncoder();
        return new Response(new ReadableStream({
          start(controller) {
            controller.enqueue(encoder.encode("one\\n"));
            go = () => { controller.enqueue(encoder.encode("two\\n")); controller.close(); };
          },
        }));
      },
    };`,
  "crash/index.ts": `
    export default {
      fetch(request: Request): Response {
        if (request.method === "POST") Deno.exit(3);
        return new Response("well");
      },
    };`,
  "nothing/index.ts": "export const mistake = 1;\n",
  "nosy/index.ts": `
    const told = async (work: () => Promise<unknown>): Promise<string> => {
      try { return String(await work()); } catch (error) { return (error as Error).name; }
    };
    export default {
      fetch: async () => Response.json([
        await told(() => Deno.readTextFile(new URL("../../../.millrace/functions.json", import.meta.url))),
        await told(() => Deno.readTextFile("/etc/passwd")),
        await told(() => new Deno.Command("true").output()),
        await told(() => Deno.readTextFile(new URL("./page.txt", import.meta.url))),
      ]),
    };`,
  "nosy/page.txt": "a page",
};

describe("functions server", () => {
  let project: Project;
  let served: Served;
  const call = (path: string, init?: RequestInit): Promise<Response> =>
    fetch(`${served.functionsUrl}/${path}`, init);

  before(async () => {
    project = await makeProject(FILES);
    served = await serve(project);
  });
  after(async () => {
    await served.stop();
    await project.remove();
  });

  it("hands requests on as they are, without its own prefix, and answers back", async () => {
    const response = await call("classic/deep/path?x=1", {
      method: "PATCH",
      headers: { "x-given": "given" },
      body: "Ada",
    });

    assert.equal(response.status, 418);
    assert.equal(response.headers.get("x-seen"), "PATCH /classic/deep/path?x=1 given");
    assert.equal(`http://${response.headers.get("x-host")}`, served.url);
    assert.deepEqual(response.headers.getSetCookie(), ["a=1"]);
    assert.equal(await response.text(), "hello Ada");
  });

  it("serves modules that export fetch, and starts each function once, however many call", async () => {
    const responses = await Promise.all(Array.from({ length: 10 }, () => call("modern")));

    const bodies = await Promise.all(responses.map((one) => one.json()));
    assert.deepEqual(
      bodies,
      bodies.map(() => ({ ok: true })),
    );
    const starts = served.events.filter((one) => one.kind === "started" && one.name === "modern");
    assert.equal(starts.length, 1);
  });

  it("answers 404 as Supabase does for what is not there, shared code included", async () => {
    for (const path of ["missing", "_shared", "", "..%2f..", "classic.ts"]) {
      const response = await call(path);
      assert.equal(response.status, 404, path);
      assert.deepEqual(await response.json(), {
        code: "NOT_FOUND",
        message: "Requested function was not found",
      });
    }
    const rest = await fetch(`${served.url}/rest/v1/jobs`);
    assert.equal(rest.status, 404);
    assert.equal((await rest.json()).code, "NOT_SERVED");
  });

  it("answers a request whose target is no URL", async () => {
    const { hostname, port } = new URL(served.url);
    const status = await new Promise((resolve, reject) => {
      request({ hostname, port, path: "//" }, (answer) => resolve(answer.resume().statusCode))
        .once("error", reject)
        .end();
    });

    assert.equal(status, 404);
  });

  it("names what is there", async () => {
    assert.deepEqual(await served.names(), [
      "classic",
      "crash",
      "modern",
      "nosy",
      "nothing",
      "trickle",
    ]);
  });

  it("passes an answer on while it is still being made", async () => {
    const response = await call("trickle");
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    assert.equal((await reader?.read())?.value, "one\n");

    await call("trickle", { method: "PUT" });

    assert.equal((await reader?.read())?.value, "two\n");
    assert.equal((await reader?.read())?.done, true);
  });

  it("tells the function when its caller leaves", async () => {
    const leave = new AbortController();
    const response = await call("trickle", { signal: leave.signal });
    assert.equal(response.status, 200);

    leave.abort();

    await eventually(() => served.log("trickle").includes("the caller left"));
  });

  it("answers 500 when a function ends its process, and the next request gets a new one", async () => {
    assert.equal(await (await call("crash")).text(), "well");
    const first = served.pid("crash");

    const response = await call("crash", { method: "POST" });

    assert.equal(response.status, 500);
    assert.equal((await response.json()).code, "WORKER_ERROR");
    await eventually(() => served.events.some((one) => one.kind === "ended"));
    assert.equal(await (await call("crash")).text(), "well");
    assert.notEqual(served.pid("crash"), first);
  });

  it("a function that serves nothing answers 503, and its log says why", async () => {
    const response = await call("nothing");

    assert.equal(response.status, 503);
    assert.equal((await response.json()).code, "BOOT_ERROR");
    assert.match(served.log("nothing"), /neither calls Deno.serve\(\) nor exports default/);
  });

  it("lets functions read their project, but no keys, no other files, and run no programs", async () => {
    const answer = await (await call("nosy")).json();

    assert.deepEqual(answer, ["NotCapable", "NotCapable", "NotCapable", "a page"]);
  });
});

describe("functions server, its start and end", () => {
  it("takes another port than the preferred one, but not than the demanded one", async () => {
    const project = await makeProject();
    const other = createServer();
    const port = await new Promise<number>((resolve) => {
      other.listen(0, "127.0.0.1", () => {
        const address = other.address();
        resolve(typeof address === "object" ? (address?.port ?? 0) : 0);
      });
    });
    try {
      await assert.rejects(serve(project, { port }), { code: "FUNCTIONS_PORT_IN_USE" });
      const served = await serve(project, { port: undefined, preferredPort: port });
      assert.notEqual(served.url, `http://127.0.0.1:${port}`);
      await served.stop();
    } finally {
      other.close();
      await project.remove();
    }
  });

  it("at the end tells functions, waits for what they still do, and leaves no process", async () => {
    const project = await makeProject({
      "later/index.ts": `
        addEventListener("beforeunload", (event) => {
          console.log("ends by " + (event as CustomEvent).detail.reason);
          EdgeRuntime.waitUntil(new Promise((resolve) => setTimeout(resolve, 300)).then(() => console.log("released")));
        });
        declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void };
        export default {
          fetch() {
            EdgeRuntime.waitUntil(Promise.reject(new Error("told, not thrown")));
            return new Response("soon", { status: 202 });
          },
        };`,
      "stubborn/index.ts": `
        declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void };
        EdgeRuntime.waitUntil(new Promise(() => undefined));
        export default { fetch: () => new Response("never") };`,
    });
    const served = await serve(project, { graceMs: 800 });
    try {
      assert.equal((await fetch(`${served.functionsUrl}/later`)).status, 202);
      await served.warm("stubborn");
      const pids = [served.pid("later") ?? 0, served.pid("stubborn") ?? 0];
      assert.deepEqual(pids.map(isAlive), [true, true]);

      await served.stop();

      assert.match(
        served.log("later"),
        /background work failed: Error: told, not thrown[\s\S]*ends by termination\nreleased\n/,
      );
      assert.deepEqual(pids.map(isAlive), [false, false]);
      await assert.rejects(fetch(`${served.functionsUrl}/later`));
    } finally {
      await served.stop({ isForced: true });
      await project.remove();
    }
  });
});

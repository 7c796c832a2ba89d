import assert from "node:assert/strict";
import { createServer } from "node:http";
import { basename } from "node:path";
import { after, before, describe, it } from "node:test";
import { isAlive } from "../../src/embedded/process-alive.ts";
import { eventually } from "../support/eventually.ts";
import { makeProject, type Project, type Served, serve } from "./project.ts";

const says = (text: string): string =>
  `export default { fetch: () => new Response(${JSON.stringify(text)}) };\n`;

/** A server that lets its first caller wait until `open` is called. */
async function openGate(): Promise<{ url: string; knocked: Promise<void>; open(): void }> {
  let knock: () => void = () => undefined;
  let open: () => void = () => undefined;
  const knocked = new Promise<void>((resolve) => {
    knock = resolve;
  });
  const server = createServer((_request, response) => {
    open = () => {
      response.end();
      server.close();
    };
    knock();
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  return { url: `http://127.0.0.1:${port}`, knocked, open: () => open() };
}

describe("functions are started anew when their files change", () => {
  let project: Project;
  let served: Served;
  const text = async (path: string): Promise<string> =>
    (await fetch(`${served.functionsUrl}/${path}`)).text();

  before(async () => {
    project = await makeProject({
      ".env": "GREETING=hello\n",
      "_shared/name.ts": "export const name = 'Ada';\n",
      "/lib/end.ts": "export const end = '!';\n",
      "greet/index.ts": `
        import { name } from "../_shared/name.ts";
        import { end } from "../../../lib/end.ts";
        export default { fetch: () => new Response(Deno.env.get("GREETING") + " " + name + end) };`,
      "plain/index.ts": says("plain"),
      "slow/index.ts": `
        export default {
          async fetch(request: Request): Promise<Response> {
            await fetch(request.headers.get("x-wait")!);
            return new Response("old");
          },
        };`,
    });
    served = await serve(project);
  });
  after(async () => {
    await served.stop();
    await project.remove();
  });

  it("its own, shared ones, those it imports from elsewhere, and variables", async () => {
    assert.equal(await text("greet"), "hello Ada!");

    await project.write({ "_shared/name.ts": "export const name = 'Grace';\n" });
    await eventually(async () => (await text("greet")) === "hello Grace!");

    await project.write({ ".env": "GREETING=goodbye\n" });
    await eventually(async () => (await text("greet")) === "goodbye Grace!");

    await project.write({ "/lib/end.ts": "export const end = '?';\n" });
    await eventually(async () => (await text("greet")) === "goodbye Grace?");

    await project.write({ "greet/index.ts": says("anew") });
    await eventually(async () => (await text("greet")) === "anew");
    assert.deepEqual(
      served.events
        .map((one) => (one.kind === "changed" ? basename(one.path) : ""))
        .filter(Boolean),
      ["name.ts", ".env", "end.ts", "index.ts"],
    );
  });

  it("not the others: who did not change keeps its process", async () => {
    await text("plain");
    await text("greet");
    const pid = served.pid("plain");

    await project.write({ "greet/index.ts": says("once more") });
    await eventually(async () => (await text("greet")) === "once more");

    assert.equal(await text("plain"), "plain");
    assert.equal(served.pid("plain"), pid);
  });

  it("a request that is under way is answered by the old code", async () => {
    const gate = await openGate();
    const waiting = fetch(`${served.functionsUrl}/slow`, { headers: { "x-wait": gate.url } });
    await gate.knocked;
    const old = served.pid("slow");

    await project.write({ "slow/index.ts": says("new") });
    await eventually(() => served.pid("slow") !== old);
    assert.equal(await text("slow"), "new");
    gate.open();

    assert.equal(await (await waiting).text(), "old");
    await eventually(() => !isAlive(old ?? 0));
  });

  it("one that did not start is tried again when it is mended, without a request", async () => {
    await project.write({ "broken/index.ts": "this is no code\n" });
    assert.equal((await fetch(`${served.functionsUrl}/broken`)).status, 503);
    assert.match(
      served.log("broken"),
      /The function can't be loaded: .*SyntaxError: Expected ';'[\s\S]*broken\/index.ts:1/,
    );

    await project.write({ "broken/index.ts": says("mended") });

    await eventually(() => served.pid("broken"));
    assert.equal(await text("broken"), "mended");
  });

  it("a new one is there at once, and a removed one is gone", async () => {
    await project.write({ "late/index.ts": says("late") });
    assert.equal(await text("late"), "late");

    await project.remove("late");

    await eventually(async () => (await fetch(`${served.functionsUrl}/late`)).status === 404);
  });
});

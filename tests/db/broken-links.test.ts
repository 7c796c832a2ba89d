import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from "node:net";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import { describeWithDatabase } from "../support/suite.ts";

/** A way to the database that can be cut. */
async function startProxy(target: URL) {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connectSocket(Number(target.port), target.hostname);
    sockets.add(near);
    near.pipe(far);
    far.pipe(near);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on("error", () => undefined);
      one.on("close", () => other.destroy());
    }
    near.on("close", () => sockets.delete(near));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = new URL(target.href);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    reset: () => [...sockets].map((socket) => socket.resetAndDestroy()),
    close: () => server.close(),
  };
}

describeWithDatabase("a link that breaks while statements are sent", (context) => {
  it("leaves no statement without an answer, and the next ones go through", async () => {
    const proxy = await startProxy(new URL(context.db.url));
    const sql = connect(proxy.url, { max: 1 });
    const ask = () =>
      sql.query("select $1::text", ["1"], { prepare: true, signal: AbortSignal.timeout(5_000) });
    const outcomes = new Set<string>();
    const note = (error: { code?: string; name: string }) => outcomes.add(error.code ?? error.name);

    for (let round = 0; round < 30; round += 1) {
      await ask();
      proxy.reset();
      // One is on its way when the driver hears of the loss, another is asked for just then.
      const first = ask().catch(note);
      await new Promise((resolve) => setImmediate(resolve));
      const second = ask().catch(note);
      await first;
      await ask().catch(note);
      await second;
    }

    assert.deepEqual([...outcomes], ["DATABASE_UNREACHABLE"]);
    await sql.close();
    proxy.close();
  });
});

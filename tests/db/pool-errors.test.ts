import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import pg from "pg";
import { fromPg } from "../../src/db/pg.ts";

/** A message of the Postgres protocol. */
function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

test("a connection of a pool that is ended in the moment it is made is an error, and not the process's end", async () => {
  const fields = ["SFATAL", "VFATAL", "C57P01", "Mterminating connection", "", ""];
  const goodbye = Buffer.concat([
    message("R", Buffer.from([0, 0, 0, 0])),
    message("Z", Buffer.from("I")),
    message("E", Buffer.from(fields.join("\0"))),
  ]);
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    // All in one piece: who waits for the connection is told only after the error was read.
    socket.once("data", () => socket.end(goodbye));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const pool = new pg.Pool({ host: "127.0.0.1", port, user: "nobody", database: "none" });
  try {
    await assert.rejects(fromPg(pool).query("select 1"), { code: "DATABASE_UNREACHABLE" });
  } finally {
    await pool.end();
    server.close();
  }
});

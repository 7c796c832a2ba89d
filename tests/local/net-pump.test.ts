import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { after, before, it } from "node:test";
import {
  installLocalPlatform,
  localPlatform,
  removeVaultSecret,
  setVaultSecret,
} from "../../src/db/local-platform.ts";
import { connect, fromPostgresJs } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { type NetPump, startNetPump } from "../../src/local/net-pump.ts";
import { eventually } from "../support/eventually.ts";
import { describeWithDatabase } from "../support/suite.ts";

interface Heard {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly token: unknown;
  readonly body: string;
}

/** A server that hears requests and answers as the path says. */
class Ear {
  readonly heard: Heard[] = [];
  readonly #held: ServerResponse[] = [];
  most = 0;
  #open = 0;
  readonly #server: Server = createServer(
    (request, response) => void this.#hear(request, response),
  );
  url = "";

  async start(): Promise<void> {
    await new Promise<void>((resolve) => void this.#server.listen(0, "127.0.0.1", resolve));
    const address = this.#server.address();
    this.url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** Answers those that wait. */
  answer(): void {
    for (const response of this.#held.splice(0)) response.end();
  }

  get waiting(): number {
    return this.#held.length;
  }

  async #hear(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#open += 1;
    this.most = Math.max(this.most, this.#open);
    response.once("close", () => {
      this.#open -= 1;
    });
    let body = "";
    for await (const chunk of request) body += String(chunk);
    const { method, url, headers } = request;
    this.heard.push({ method, url, token: headers.authorization, body });
    if (url?.startsWith("/wait")) this.#held.push(response);
    else response.writeHead(202, { "content-type": "text/x-told" }).end("to\0ld");
  }
}

describeWithDatabase(
  "stand-ins of pg_net and Vault",
  (context) => {
    const ear = new Ear();
    let sql: Sql;
    let stop: AbortController;
    let pump: NetPump;

    before(async () => {
      await ear.start();
      sql = connect(context.db.url, { max: 4 });
      await installLocalPlatform(sql);
      stop = new AbortController();
      pump = await startNetPump({ sql, signal: stop.signal, concurrency: 3, pollMs: 60_000 });
    });
    after(async () => {
      stop.abort();
      ear.stop();
      await pump.ended;
      await sql.close();
    });

    const response = (id: unknown): Promise<Record<string, unknown>> =>
      eventually(async () => {
        const [row] = await context.db.sql`
          select status_code, content_type, headers, content, timed_out, error_msg, created > now() - interval '1 minute' as is_new
          from net._http_response where id = ${String(id)}`;
        return row;
      });

    it("sends after commit, soon, with headers and parameters, and keeps the answer", async () => {
      const [row] = await context.db.sql`
        select net.http_post(
          url := ${`${ear.url}/x?a=1`},
          body := '{"action": "process", "ä": [1]}',
          params := '{"two words": "ü&="}',
          headers := '{"Content-Type": "application/json", "Authorization": "Bearer t"}') as id`;

      assert.deepEqual(await response(row?.["id"]), {
        status_code: 202,
        content_type: "text/x-told",
        headers: { ...((await response(row?.["id"]))["headers"] as object) },
        content: "told",
        timed_out: false,
        error_msg: null,
        is_new: true,
      });
      assert.deepEqual(ear.heard.at(-1), {
        method: "POST",
        url: "/x?a=1&two%20words=%C3%BC%26%3D",
        token: "Bearer t",
        body: '{"ä": [1], "action": "process"}',
      });
      const [left] = await context.db.sql`select count(*)::int as left from net.http_request_queue`;
      assert.equal(left?.["left"], 0);
    });

    it("sends nothing of a transaction that was rolled back", async () => {
      const rolledBack = new Error("rolled back");
      await context.db.sql
        .begin(async (tx) => {
          await tx`select net.http_post(${`${ear.url}/never`})`;
          throw rolledBack;
        })
        .catch((error: unknown) => assert.equal(error, rolledBack));
      const [row] = await context.db.sql`select net.http_post(${`${ear.url}/later`}) as id`;
      await response(row?.["id"]);

      assert.ok(ear.heard.every((one) => one.url !== "/never"));
      assert.equal(ear.heard.at(-1)?.body, "{}");
    });

    it("gives up after the request's own timeout, and tells what failed otherwise", async () => {
      const [late] = await context.db.sql`
        select net.http_post(url := ${`${ear.url}/wait`}, timeout_milliseconds := 100) as id`;
      const { timed_out, error_msg, status_code } = await response(late?.["id"]);
      assert.deepEqual(
        [timed_out, error_msg, status_code],
        [true, "Timeout of 100 ms reached", null],
      );
      ear.answer();

      const [lost] = await context.db.sql`select net.http_post('http://127.0.0.1:1/') as id`;
      const refused = await response(lost?.["id"]);
      assert.deepEqual([refused["timed_out"], refused["status_code"]], [false, null]);
      assert.match(String(refused["error_msg"]), /^fetch failed: .*(?:ECONNREFUSED|bad port)/);

      const [odd] = await context.db.sql`select net.http_post('no url') as id`;
      assert.match(String((await response(odd?.["id"]))["error_msg"]), /URL/);
    });

    it("takes JSON only, as the real one does", async () => {
      const post = (headers: string): Promise<unknown> =>
        context.db.sql`select net.http_post('http://x', headers := ${headers}::text::jsonb)`;

      await assert.rejects(post('{"content-type": "text/plain"}'), /must be "application\/json"/);
      await assert.rejects(post("{}"), /must name "application\/json"/);
      await post('{"content-type": "application/json; charset=utf-8"}');
    });

    it("has no more under way than it may, and sends each once", async () => {
      const from = ear.heard.length;
      ear.most = 0;
      await context.db.sql`select net.http_post(${`${ear.url}/wait`}) from generate_series(1, 8)`;
      const other = new AbortController();
      const second = await startNetPump({ sql, signal: other.signal, concurrency: 3 });

      await eventually(() => ear.waiting === 6);
      const [left] = await context.db.sql`select count(*)::int as left from net.http_request_queue`;
      assert.deepEqual([ear.most, left?.["left"]], [6, 2]);
      await eventually(() => {
        ear.answer();
        return ear.heard.length === from + 8;
      });
      ear.answer();

      other.abort();
      await second.ended;
      assert.equal(ear.heard.length, from + 8);
    });

    it("ends at once although an answer is missing, and says so", async () => {
      const [row] = await context.db.sql`select net.http_post(${`${ear.url}/wait`}) as id`;
      await eventually(() => ear.waiting === 1);

      stop.abort();
      await pump.ended;

      assert.match(String((await response(row?.["id"]))["error_msg"]), /^given up/);
      stop = new AbortController();
      pump = await startNetPump({ sql, signal: stop.signal });
    });

    it("polls where notifications do not arrive", async () => {
      stop.abort();
      await pump.ended;
      stop = new AbortController();
      const { listen: _without, ...deaf } = fromPostgresJs(context.db.connect({ max: 1 }));
      pump = await startNetPump({ sql: deaf, signal: stop.signal, pollMs: 50 });

      const [row] = await context.db.sql`select net.http_post(${`${ear.url}/polled`}) as id`;

      assert.equal((await response(row?.["id"]))["status_code"], 202);
    });

    it("Vault keeps, changes and forgets secrets by name", async () => {
      const known = (): Promise<readonly Record<string, unknown>[]> =>
        context.db
          .sql`select name, decrypted_secret, description from vault.decrypted_secrets order by name`;
      await context.db.sql`select vault.create_secret('s1', 'one', 'the first')`;
      await setVaultSecret(sql, "two", "s2");
      await setVaultSecret(sql, "one", "s3");

      assert.deepEqual(
        (await known()).map((row) => ({ ...row })),
        [
          { name: "one", decrypted_secret: "s3", description: "the first" },
          { name: "two", decrypted_secret: "s2", description: "set by millrace dev" },
        ],
      );
      await assert.rejects(context.db.sql`select vault.create_secret('x', 'one')`, /duplicate key/);

      await removeVaultSecret(sql, "one", "s1");
      await removeVaultSecret(sql, "two", "s2");
      assert.deepEqual(
        (await known()).map((row) => row["name"]),
        ["one"],
      );
    });

    it("nobody but their owner can use them", async () => {
      for (const role of ["anon", "authenticated", "service_role"]) {
        const as = context.db.connectAs(role);
        await assert.rejects(as`select net.http_post('http://x')`, /permission denied/, role);
        await assert.rejects(as`select * from vault.decrypted_secrets`, /permission denied/, role);
      }
    });

    it("installing again changes nothing; what is there already is left alone and not pumped", async () => {
      assert.deepEqual(await installLocalPlatform(sql), { net: "stand-in", vault: "stand-in" });

      await context.db.sql`alter schema net rename to net_ours`;
      await context.db.sql`alter schema vault rename to vault_ours`;
      await context.db.sql`create schema net`;
      await context.db.sql`create schema vault`;

      assert.deepEqual(await installLocalPlatform(sql), { net: "foreign", vault: "foreign" });
      await assert.rejects(startNetPump({ sql, signal: stop.signal }), { code: "NET_NOT_OURS" });
      await context.db.sql`drop schema net, vault`;
      assert.deepEqual(await localPlatform(sql), { net: "missing", vault: "missing" });
    });
  },
  { pooler: false },
);

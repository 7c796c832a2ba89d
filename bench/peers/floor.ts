// The floor: the fewest statements that could be called a queue, in batches of 500 on one connection. A narrow table; insert
// by unnest, or by COPY (BENCH_VARIANT=copy); lease by one update, then delete. No retries, no timeouts, no wake-up, no
// history, handlers called in turn. What it does in a second nothing that leases and deletes does.

import { connect, type Socket } from "node:net";
import postgres from "postgres";
import type { JobSpec } from "./protocol.ts";
import { serve } from "./serve.ts";

const BATCH = 500;
const isCopy = process.env["BENCH_VARIANT"] === "copy";
let sql: postgres.Sql;
let isStopping = false;
let looping: Promise<void> | undefined;

async function* batches(): AsyncGenerator<readonly { id: string; payload: JobSpec["payload"] }[]> {
  while (!isStopping) {
    const jobs = await sql<{ id: string; payload: JobSpec["payload"] }[]>`
      update jobs set leased_until = now() + interval '30 s'
      where id = any (array(
        select id from jobs where leased_until is null order by id limit ${BATCH} for update skip locked
      ))
      returning id, payload`;
    if (jobs.length === 0) return;
    yield jobs;
  }
}

/** A connection that sends small packets at once: COPY ends with one, which would else wait 40 ms for the server's ack. */
function connectAtOnce({ hostname, port }: URL): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    socket.once("error", reject).once("connect", () => resolve(socket));
  });
}

serve({
  async setup(url) {
    const own = postgres(url, { max: 1 });
    await own`create table jobs (
      id bigint generated always as identity primary key, leased_until timestamptz, payload jsonb not null
    )`;
    await own`create index jobs_free on jobs (id) where leased_until is null`;
    await own.end();
  },
  async connect(url) {
    // A table that was empty when its statistics were taken misleads the planner.
    const options = {
      // A new connection for each COPY would be what is measured.
      max: isCopy ? 1 : 10,
      // Not in the driver's types, but read by it.
      socket: () => connectAtOnce(new URL(url)),
      connection: { enable_seqscan: false, jit: false },
    };
    sql = postgres(url, options);
    await sql`select 1`;
  },
  async enqueueOne({ payload }) {
    await sql`insert into jobs (payload) values (${sql.json({ ...payload })})`;
  },
  async enqueueMany(jobs) {
    const payloads = jobs.map(({ payload }) => JSON.stringify(payload));
    if (!isCopy) {
      await sql`insert into jobs (payload) select p::jsonb from unnest(${payloads}::text[]) as p`;
      return;
    }
    const stream = await sql`copy jobs (payload) from stdin (format csv, quote '''')`.writable();
    await new Promise<void>((resolve, reject) => {
      stream.on("error", reject).on("finish", resolve);
      stream.end(payloads.map((payload) => `'${payload}'\n`).join(""));
    });
  },
  async work(_options, handle) {
    const loop = async (): Promise<void> => {
      for await (const jobs of batches()) {
        for (const { payload } of jobs) await handle(payload);
        await sql`delete from jobs where id = any (${jobs.map(({ id }) => id)}::bigint[])`;
      }
    };
    looping = loop();
    looping.catch(() => undefined);
  },
  async count() {
    const [row] = await sql`select count(*) as n from jobs`;
    return { left: Number(row?.["n"]), completed: null };
  },
  async settle() {
    isStopping = true;
    await looping;
  },
});

import assert from "node:assert/strict";
import { after, before, beforeEach } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import {
  createQueueWorker,
  type QueueWorker,
  type QueueWorkerOptions,
  type RunReport,
} from "../../src/http/index.ts";
import { createQueue, type Queue, silentLogger } from "../../src/index.ts";
import { rigOf } from "../sql/rig.ts";
import type { SuiteContext } from "../support/suite.ts";
import { type FunctionServer, reply, startFunctionServer } from "./function-server.ts";

export const SERVICE = "service-role-key";
export const DOORBELL = "doorbell-token";
export const ADDRESS = "http://worker.test/functions/v1/queue-worker";

/** Workers over HTTP on a suite's database, and the functions they send jobs to; `sql`, `queue` and `functions` are there from the first hook on. */
export interface WorkerRig {
  readonly queue: Queue;
  readonly functions: FunctionServer;
  workerOf(options?: Partial<QueueWorkerOptions>): QueueWorker;
  post(worker: QueueWorker, query?: string, body?: unknown): Promise<Response>;
  /** A run, and what it did. */
  run(worker: QueueWorker, query?: string, body?: unknown): Promise<RunReport>;
  /** What a function reports. */
  report(worker: QueueWorker, token: string, body: unknown): Promise<Response>;
}

/** Makes the rig with the hooks that it needs; each test begins with an empty queue and functions that answer 200. */
export function workerRig(context: SuiteContext): WorkerRig {
  let sql: Sql;
  let queue: Queue;
  let functions: FunctionServer;
  before(async () => {
    sql = connect(context.db.url, { max: 2, maxTransactions: 1, pooled: context.isPooled });
    queue = createQueue({ sql });
    functions = await startFunctionServer();
  });
  beforeEach(async () => {
    await rigOf(context.db).clear();
    functions.heard.length = 0;
    functions.answer((_call, response) => reply(response, 200, { done: true }));
  });
  after(async () => {
    functions.close();
    await sql.close();
  });

  function send(worker: QueueWorker, query: string, token: string, body: unknown) {
    const headers = { authorization: `Bearer ${token}` };
    const init = {
      method: "POST",
      headers,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    };
    return worker.fetch(new Request(`${ADDRESS}${query}`, init));
  }

  return {
    get queue() {
      return queue;
    },
    get functions() {
      return functions;
    },
    workerOf: (options = {}) =>
      createQueueWorker({
        sql,
        keys: { serviceTokens: [SERVICE], secretKeys: ["sb_secret_x"], doorbellTokens: [DOORBELL] },
        functionsUrl: functions.url,
        functionHeaders: { authorization: `Bearer ${SERVICE}` },
        callback: { url: `${ADDRESS}?action=report`, secrets: ["callback secret"] },
        logger: silentLogger,
        ...options,
      }),
    post: (worker, query = "", body) => send(worker, query, SERVICE, body),
    async run(worker, query = "", body) {
      const response = await send(worker, query, SERVICE, body);
      assert.equal(response.status, 200);
      return (await response.json()) as RunReport;
    },
    report: (worker, token, body) => send(worker, "?action=report", token, body),
  };
}

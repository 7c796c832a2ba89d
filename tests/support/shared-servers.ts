import { after } from "node:test";
import { type OwnServer, startTestServer, type TestServer } from "./server.ts";
import { poolerFromEnvironment, serversFromEnvironment } from "./server-environment.ts";
import { type OwnServerPooler, type ServerPooler, startServerPooler } from "./server-pooler.ts";

const started = new Map<number, Promise<OwnServer>>();
let startedPooler: Promise<OwnServerPooler> | undefined;

/**
 * The cluster of this run for a major version. The runner passes its clusters in
 * MILLRACE_TEST_SERVERS; a test file that is run by itself starts its own, once.
 */
export async function sharedServer(major: number): Promise<TestServer> {
  const given = serversFromEnvironment().find((server) => server.major === major);
  if (given) return given;
  const running = started.get(major) ?? startTestServer(major);
  started.set(major, running);
  return running;
}

/** The pooler of this run, in front of its newest cluster, which is `server`. */
export async function sharedPooler(server: TestServer): Promise<ServerPooler> {
  const given = poolerFromEnvironment();
  if (given) return given;
  startedPooler ??= startServerPooler(server);
  return startedPooler;
}

if (!process.env["MILLRACE_TEST_SERVERS"]) {
  after(async () => {
    await (await startedPooler)?.stop();
    for (const server of started.values()) await (await server).stop();
  });
}

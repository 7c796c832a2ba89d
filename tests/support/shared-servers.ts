import { after } from "node:test";
import { type OwnServer, startTestServer, type TestServer } from "./server.ts";
import { serversFromEnvironment } from "./server-environment.ts";

const started = new Map<number, Promise<OwnServer>>();

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

if (!process.env["MILLRACE_TEST_SERVERS"]) {
  after(async () => {
    for (const server of started.values()) await (await server).stop();
  });
}

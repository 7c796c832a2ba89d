import type { TestServer } from "./server.ts";

/** How the runner hands its clusters to the processes of test files. */
export function toEnvironment(servers: readonly TestServer[]): Record<string, string> {
  const plain = servers.map(({ major, version, superUrl }) => ({ major, version, superUrl }));
  return { MILLRACE_TEST_SERVERS: JSON.stringify(plain) };
}

/** The clusters of the runner; none when a test file is run by itself. */
export function serversFromEnvironment(): TestServer[] {
  const text = process.env["MILLRACE_TEST_SERVERS"];
  // Written by toEnvironment() above, in our own parent process.
  return text ? (JSON.parse(text) as TestServer[]) : [];
}

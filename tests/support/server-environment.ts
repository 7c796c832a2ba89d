import type { TestServer } from "./server.ts";
import type { ServerPooler } from "./server-pooler.ts";

/** How the runner hands its clusters to the processes of test files, and what they are to do with them. */
export function toEnvironment(
  servers: readonly TestServer[],
  pooler?: ServerPooler,
): Record<string, string> {
  const plain = servers.map(({ major, version, superUrl }) => ({ major, version, superUrl }));
  return {
    MILLRACE_TEST_SERVERS: JSON.stringify(plain),
    MILLRACE_TEST_POOLER: pooler ? "1" : "0",
    ...(pooler && { MILLRACE_TEST_POOLER_PORT: String(pooler.port) }),
  };
}

/** The clusters of the runner; none when a test file is run by itself. */
export function serversFromEnvironment(): TestServer[] {
  const text = process.env["MILLRACE_TEST_SERVERS"];
  // Written by toEnvironment() above, in our own parent process.
  return text ? (JSON.parse(text) as TestServer[]) : [];
}

/** The runner's pooler, in front of its newest cluster. */
export function poolerFromEnvironment(): ServerPooler | undefined {
  const port = process.env["MILLRACE_TEST_POOLER_PORT"];
  return port ? { port: Number(port) } : undefined;
}

/** Which suites run: those that talk to the servers, those that go through the pooler, or (to the runner) both. */
export const POOLER_CHOICE: "direct" | "pooled" | "both" = choose();

function choose(): typeof POOLER_CHOICE {
  switch (process.env["MILLRACE_TEST_POOLER"]) {
    case "1":
      return "pooled";
    case "0":
      return "direct";
    default:
      return "both";
  }
}

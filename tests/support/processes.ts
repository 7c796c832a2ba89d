import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Account } from "../../src/embedded/run-program.ts";
import { eventually } from "./eventually.ts";

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A child process that a test started. Whatever is still running is killed when the test ends. */
export interface TestProcess {
  readonly pid: number;
  /** Everything it printed so far, both streams. */
  output(): string;
  /** Resolves with the output when it holds the marker; rejects when the process ends before. */
  waitFor(marker: string | RegExp, options?: { timeoutMs?: number }): Promise<string>;
  readonly exited: Promise<Exit>;
  /** Sends a signal to this process alone and waits for its end. */
  kill(signal?: NodeJS.Signals): Promise<Exit>;
  /** Sends a signal and does not wait. */
  signal(signal: NodeJS.Signals): void;
}

export interface ProcessOptions {
  readonly args?: readonly string[];
  /** Added to our own environment; undefined removes. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly account?: Account | undefined;
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const running = new Set<ChildProcess>();

process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Runs a TypeScript file in a Node process of its own, as `npm start` does. */
export function spawnScript(path: string | URL, options: ProcessOptions = {}): TestProcess {
  const file = path instanceof URL ? fileURLToPath(path) : path;
  const args = ["--import", import.meta.resolve("tsx"), file, ...(options.args ?? [])];
  return spawnProcess(process.execPath, { ...options, args });
}

/** Runs any program. */
export function spawnProcess(command: string, options: ProcessOptions = {}): TestProcess {
  const child = spawn(command, options.args ?? [], {
    cwd: options.cwd ?? ROOT,
    // A child that uses node:test would otherwise talk to our runner.
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
    ...(options.account && { uid: options.account.uid, gid: options.account.gid }),
  });
  running.add(child);
  let output = "";
  let ended = false;
  const collect = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  const exited = new Promise<Exit>((resolve) => {
    child.once("error", (error) => {
      output += error.message;
      resolve({ code: null, signal: null });
    });
    child.once("close", (code, signal) => resolve({ code, signal }));
  }).then((exit) => {
    ended = true;
    running.delete(child);
    return exit;
  });
  return {
    pid: child.pid ?? -1,
    output: () => output,
    exited,
    async waitFor(marker, { timeoutMs = 20_000 } = {}) {
      const seen = (): boolean =>
        typeof marker === "string" ? output.includes(marker) : marker.test(output);
      await eventually(() => seen() || ended, { timeoutMs }).catch(() => undefined);
      if (seen()) return output;
      throw new Error(
        `${String(marker)} was not printed${ended ? " before its end" : ""}:\n${output}`,
      );
    },
    async kill(signal = "SIGKILL") {
      child.kill(signal);
      return exited;
    },
    signal(signal) {
      child.kill(signal);
    },
  };
}

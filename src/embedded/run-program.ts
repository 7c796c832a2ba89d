import { spawn } from "node:child_process";

/** The uid and gid that the server runs as, when they are not our own. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Environment variables as a plain record; this room never reads `process.env` itself. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface ProgramResult {
  /** Exit code; undefined when the program could not be started or died of a signal. */
  readonly code: number | undefined;
  readonly output: string;
}

/**
 * Runs a program to its end and returns what it printed; never rejects. It runs in `/` unless told
 * otherwise, because the account may not be able to enter our own working directory.
 */
export function runProgram(
  file: string,
  args: readonly string[],
  options: { account?: Account | undefined; env?: Environment; cwd?: string } = {},
): Promise<ProgramResult> {
  return new Promise((resolve) => {
    let output = "";
    const child = spawn(file, args, {
      cwd: options.cwd ?? "/",
      env: cleanEnvironment(options.env ?? {}),
      stdio: ["ignore", "pipe", "pipe"],
      windowsHide: true,
      ...(options.account && { uid: options.account.uid, gid: options.account.gid }),
    });
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.once("error", (error) => resolve({ code: undefined, output: error.message }));
    child.once("close", (code) => resolve({ code: code ?? undefined, output }));
  });
}

/** Drops PG* variables, which would redirect initdb and pg_ctl, and fixes the language of logs. */
function cleanEnvironment(env: Environment): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(([name]) => !name.startsWith("PG"));
  return { ...Object.fromEntries(kept), LC_ALL: "C" };
}

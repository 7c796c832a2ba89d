import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The folder of the repository, with a slash at its end. */
export const ROOT: string = fileURLToPath(new URL("../", import.meta.url));

/** How a command ended and what it printed on both streams. */
export interface CommandResult {
  readonly ok: boolean;
  readonly output: string;
}

/** Runs a program of node_modules/.bin in the repository's folder; never rejects. */
export function runTool(
  name: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  return runCommand(`${ROOT}node_modules/.bin/${name}`, args, env);
}

/** Runs one of our own scripts. */
export function runScript(name: string, args: readonly string[] = []): Promise<CommandResult> {
  return runCommand(process.execPath, ["--import", "tsx", `${ROOT}scripts/${name}`, ...args], {});
}

function runCommand(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<CommandResult> {
  return new Promise((resolve) => {
    let output = "";
    const windows = process.platform === "win32";
    const child = spawn(file, args, {
      cwd: ROOT,
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined, ...env },
      // There the programs of node_modules are .cmd files, which only a shell can start.
      shell: windows && file !== process.execPath,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const collect = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.once("error", (error) => resolve({ ok: false, output: output + error.message }));
    child.once("close", (code) => resolve({ ok: code === 0, output }));
  });
}

import type { CliError } from "./cli-error.ts";
import type { Terminal } from "./output/terminal.ts";

/** Prints a failure on stderr: three lines for people, one JSON document for programs. */
export function showError(
  terminal: Terminal,
  error: CliError,
  { isJson, isDebug }: { isJson: boolean; isDebug: boolean },
): void {
  if (isJson) {
    const { code, message: what, why = null, fix = null, exitCode: exit_code } = error;
    terminal.say(JSON.stringify({ error: { code, what, why, fix, exit_code } }));
    return;
  }
  const style = terminal.talkStyle;
  terminal.say(`${style("bad", "✗")} ${indented(error.message, "  ")}`);
  if (error.why) terminal.say(`  ${style("faint", "why")}  ${indented(error.why, "       ")}`);
  if (error.fix) terminal.say(`  ${style("faint", "fix")}  ${indented(error.fix, "       ")}`);
  if (isDebug) terminal.say(stackOf(error));
}

function indented(text: string, margin: string): string {
  return text.trim().replaceAll("\n", `\n${margin}`);
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : "";
  return `${error.stack ?? error.message}${cause}`;
}

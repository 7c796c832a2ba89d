import { basename } from "node:path";
import { stripVTControlCharacters } from "node:util";
import type { FunctionEvent } from "../../local/function-host.ts";
import type { CliContext } from "../context.ts";
import type { Tone } from "../output/style.ts";
import { clockTime, duration } from "../output/words.ts";

/** Tells what happens to functions as it happens: a line with the function's name, or one of NDJSON. */
export function tellFunctionEvent({ terminal, isJson }: CliContext, event: FunctionEvent): void {
  const at = new Date();
  if (isJson) {
    terminal.event({
      event: `function.${event.kind}`,
      at: at.toISOString(),
      function: event.name,
      ...particulars(event),
    });
    return;
  }
  const [tone, text] = words(event);
  const head = terminal.talkStyle("faint", `  ${clockTime(at)}    [${event.name}]`);
  terminal.say(`${head} ${terminal.talkStyle(tone, text)}`);
}

function words(event: FunctionEvent): readonly [Tone, string] {
  switch (event.kind) {
    case "started":
      return ["faint", `started in ${duration(event.ms)}`];
    case "log":
      return [event.stream === "stderr" ? "notice" : "plain", plain(event.line)];
    case "changed":
      return ["faint", `${basename(event.path)} changed`];
    case "failed":
      return ["bad", event.error.message];
    case "ended":
      return ["notice", `its process ${event.how}`];
    case "refused":
      return [
        "notice",
        `${event.variables.join(", ")} in .env ${event.variables.length === 1 ? "is" : "are"} left out: Supabase sets SUPABASE_… itself`,
      ];
  }
}

function particulars(event: FunctionEvent): object {
  switch (event.kind) {
    case "started":
      return { pid: event.pid, duration_ms: Math.round(event.ms) };
    case "log":
      return { stream: event.stream, message: plain(event.line) };
    case "changed":
      return { path: event.path };
    case "failed":
      return { message: event.error.message };
    case "ended":
      return { message: event.how };
    case "refused":
      return { variables: event.variables };
  }
}

function plain(line: string): string {
  return stripVTControlCharacters(line);
}

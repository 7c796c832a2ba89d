import { styleText } from "node:util";

/** What a text means; how that looks is decided here alone. */
export type Tone = "good" | "bad" | "notice" | "faint" | "strong" | "plain";

const FORMATS = {
  good: "green",
  bad: "red",
  notice: "yellow",
  faint: "dim",
  strong: "bold",
} as const;

export type Style = (tone: Tone, text: string) => string;

export const plainStyle: Style = (_tone, text) => text;

/** Colours, when the terminal wants them. */
export function colourStyle(isWanted: boolean): Style {
  if (!isWanted) return plainStyle;
  return (tone, text) =>
    tone === "plain" || text === ""
      ? text
      : styleText(FORMATS[tone], text, { validateStream: false });
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const CONTROLS = /\u001b\[(?:1|2|22|31|32|33|39)m|\r\n|\p{Cc}/gu;

/**
 * A text that can't command the terminal: payloads, errors and reasons come from anybody. Our own colours, lines and tabs stay; every other
 * control character is written out.
 */
export function harmless(text: string): string {
  return text.replaceAll(CONTROLS, (found) => {
    if (found === "\n" || found === "\t" || found.length > 2) return found;
    if (found === "\r\n") return "\n";
    return `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** Follows no-color.org and FORCE_COLOR; without either, a terminal gets colours. */
export function wantsColour(
  env: Readonly<Record<string, string | undefined>>,
  isTerminal: boolean,
): boolean {
  if (env["NO_COLOR"]) return false;
  const forced = env["FORCE_COLOR"];
  if (forced !== undefined && forced !== "") return forced !== "0";
  return isTerminal && env["TERM"] !== "dumb";
}

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

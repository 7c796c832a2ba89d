import type { Tone } from "./style.ts";

interface Look {
  readonly symbol: string;
  readonly tone: Tone;
}

const LOOKS: Readonly<Record<string, Look>> = {
  completed: { symbol: "✓", tone: "good" },
  failed: { symbol: "✗", tone: "bad" },
  discarded: { symbol: "✗", tone: "bad" },
  lost: { symbol: "✗", tone: "bad" },
  cancelled: { symbol: "⊘", tone: "faint" },
  retried: { symbol: "↻", tone: "notice" },
  snoozed: { symbol: "↻", tone: "notice" },
  released: { symbol: "↻", tone: "faint" },
  processing: { symbol: "▸", tone: "strong" },
  pending: { symbol: "·", tone: "plain" },
  scheduled: { symbol: "◷", tone: "plain" },
  blocked: { symbol: "◇", tone: "plain" },
};

const UNKNOWN: Look = { symbol: " ", tone: "plain" };

/** The one symbol and tone of a status, or of the way an attempt ended. */
export function lookOf(word: string): Look {
  return LOOKS[word] ?? UNKNOWN;
}

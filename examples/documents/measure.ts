const FENCED_CODE = /^(```|~~~).*?^\1/gms;
const HEADING = /^#{1,6}\s/gm;
const INLINE_LINK = /\[[^\]]*\]\([^)\s]+[^)]*\)/g;
const AUTO_LINK = /<https?:\/\/[^>\s]+>/g;
const WORD = /[\p{L}\p{N}][\p{L}\p{N}'’-]*/gu;

/** Counts what a Markdown text holds. Code blocks don't count. */
export function measure(text: string): { words: number; links: number; headings: number } {
  const prose = text.replace(FENCED_CODE, "");
  return {
    words: prose.match(WORD)?.length ?? 0,
    links: (prose.match(INLINE_LINK)?.length ?? 0) + (prose.match(AUTO_LINK)?.length ?? 0),
    headings: prose.match(HEADING)?.length ?? 0,
  };
}

/**
 * The statements of an SQL text, without the semicolons between them and without comments around them.
 *
 * Knows quotes, dollar quotes, nested comments and `begin atomic` bodies; that is all Postgres needs to tell a statement's end.
 */
export function splitStatements(text: string): string[] {
  const statements: string[] = [];
  let start = 0;
  let depth = 0;
  for (const token of text.matchAll(TOKEN)) {
    const [word] = token;
    if (word === ";" && depth === 0) {
      keep(text.slice(start, token.index));
      start = token.index + 1;
    } else if (/^begin\s+atomic$/i.test(word) || (depth > 0 && /^case$/i.test(word))) {
      depth += 1;
    } else if (depth > 0 && /^end$/i.test(word)) {
      depth -= 1;
    }
  }
  keep(text.slice(start));
  return statements;

  function keep(statement: string): void {
    const trimmed = statement.replace(LEADING_BLANKS, "").trimEnd();
    if (trimmed !== "") statements.push(trimmed);
  }
}

const LINE_COMMENT = String.raw`--[^\n]*`;
/** Comments may contain comments; one level is enough for any text a person writes. */
const BLOCK_COMMENT = String.raw`/\*(?:[^*/]|\*(?!/)|/(?!\*)|/\*(?:[^*]|\*(?!/))*\*/)*\*/`;

/** Everything within which a semicolon means nothing is one token; so are the words that open and close a body. */
const TOKEN = new RegExp(
  [
    LINE_COMMENT,
    BLOCK_COMMENT,
    String.raw`\bE'(?:[^'\\]|\\.|'')*'`,
    `'(?:[^']|'')*'`,
    `"(?:[^"]|"")*"`,
    String.raw`(\$(?:[A-Za-z_]\w*)?\$)[\s\S]*?\1`,
    String.raw`\bbegin\s+atomic\b`,
    String.raw`\b(?:case|end)\b`,
    ";",
  ].join("|"),
  "gi",
);

const LEADING_BLANKS = new RegExp(String.raw`^(?:\s|${LINE_COMMENT}|${BLOCK_COMMENT})+`);

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createMask } from "../../src/cli/mask.ts";
import { colourStyle, plainStyle } from "../../src/cli/output/style.ts";
import { table } from "../../src/cli/output/table.ts";
import { Terminal } from "../../src/cli/output/terminal.ts";
import { distance, duration, oneLine } from "../../src/cli/output/words.ts";

describe("words of the command line", () => {
  it("a duration is as short as it stays useful", () => {
    const cases: [ms: number, words: string][] = [
      [0, "0 ms"],
      [38.4, "38 ms"],
      [999.6, "1.0 s"],
      [1_440, "1.4 s"],
      [59_949, "59.9 s"],
      [59_951, "1 m"],
      [125_000, "2 m 5 s"],
      [3_599_600, "1 h"],
      [11_520_000, "3 h 12 m"],
      [176_400_000, "2 d 1 h"],
      [-5, "0 ms"],
    ];
    assert.deepEqual(
      cases.map(([ms]) => duration(ms)),
      cases.map(([, words]) => words),
    );
  });

  it("a point in time is told from now", () => {
    const now = new Date("2026-01-01T12:00:00Z");
    const at = (text: string): string => distance(new Date(text), now);

    assert.deepEqual(
      [at("2026-01-01T11:59:19Z"), at("2026-01-01T14:30:00Z"), at("2025-12-29T00:00:00Z")],
      ["41 s ago", "in 2 h", "3 d ago"],
    );
  });

  it("what is told can't command the terminal, and keeps our own colours", () => {
    const written: string[] = [];
    const sink = { write: (text: string) => written.push(text) };
    const terminal = new Terminal({ stdout: sink, stderr: sink, env: {} });
    const evil = "a\u001b]0;title\u0007b\u001b[2Jc\u009b2Jd\rok\u001b[8mhidden";
    const style = colourStyle(true);

    terminal.line(`${style("good", "fine")} ${style("faint", "x")}\tof\r\n${evil}`);
    terminal.say(evil);

    const told = "a\\u001b]0;title\\u0007b\\u001b[2Jc\\u009b2Jd\\u000dok\\u001b[8mhidden\n";
    assert.deepEqual(written, [`\u001b[32mfine\u001b[39m \u001b[2mx\u001b[22m\tof\n${told}`, told]);
  });

  it("a text becomes one line without control characters", () => {
    assert.deepEqual(
      [
        oneLine("a\nb", 10),
        oneLine("abcdefghij", 5),
        oneLine("\u001b[31mred\u0007", 20),
        oneLine("a\n\n", 9),
      ],
      ["a…", "abcd…", " [31mred", "a"],
    );
  });
});

describe("tables", () => {
  const columns = [
    { title: "id", align: "right" as const, cell: (row: string[]) => row[0] ?? "" },
    { title: "note", isFlexible: true, cell: (row: string[]) => row[1] ?? "" },
    { title: "tenant", isOptional: true, cell: (row: string[]) => row[2] ?? "" },
  ];

  it("columns are aligned, and one that says nothing is left out", () => {
    assert.deepEqual(
      table(
        columns,
        [
          ["7", "short"],
          ["12", "longer"],
        ],
        { style: plainStyle },
      ),
      ["  id  note", "   7  short", "  12  longer"],
    );
  });

  it("in a narrow terminal the flexible column gives way", () => {
    const lines = table(columns, [["7", "a note that is far too long", "acme"]], {
      style: plainStyle,
      width: 30,
    });

    assert.deepEqual(lines[1], "   7  a note that is …  acme");
  });
});

describe("secrets", () => {
  const mask = createMask(["postgres://app:s3cret%40word@db:5432/shop"]);

  it("are hidden in addresses, whoever they belong to", () => {
    assert.equal(
      mask("at redis://x:pw@host/0 and postgres://a:b@c@d/e"),
      "at redis://x:***@host/0 and postgres://a:***@d/e",
    );
    assert.equal(mask("?user=a&password=hunter2&x=1"), "?user=a&password=***&x=1");
  });

  it("are hidden wherever the password stands, encoded or not", () => {
    assert.equal(mask("tried s3cret@word and s3cret%40word"), "tried *** and ***");
  });

  it("keys are hidden too", () => {
    assert.equal(mask("apikey sb_secret_abc-DEF_1"), "apikey sb_secret_***");
  });

  it("a password that is an ordinary word does not hide the word", () => {
    const local = createMask(["postgres://postgres:postgres@localhost/postgres"]);

    assert.equal(local("role postgres"), "role postgres");
    assert.equal(
      local("postgres://postgres:postgres@localhost"),
      "postgres://postgres:***@localhost",
    );
  });
});

/** The commands of README and docs/: each is one that is there, with options that it knows. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import type { Command } from "commander";
import { buildProgram } from "../../src/cli/program.ts";
import { spawnProcess } from "../support/processes.ts";
import { placeOf, ROOT, readBlocks, readPages } from "./blocks.ts";

const SUPABASE = process.env["MILLRACE_SUPABASE_CLI"];
const supabaseMissing = SUPABASE
  ? false
  : "needs npm package supabase, its program named by MILLRACE_SUPABASE_CLI";

const PLACEHOLDER = /<[^>\n]*>/g;

/** The commands of all sh blocks, without comments, a line each, with where they stand. */
async function commands(): Promise<{ place: string; words: string[] }[]> {
  const blocks = (await readBlocks()).filter(({ language }) => language === "sh");
  return blocks.flatMap((block) =>
    block.code
      .replaceAll(/\s#.*$/gm, "")
      .replaceAll(/\\\n/g, " ")
      .split(/\n|;|&&/)
      .map((line) => line.trim().split(/\s+/))
      .filter(([first = ""]) => first !== "")
      .map((words) => ({ place: placeOf(block), words })),
  );
}

/** Why a command of ours is none: an unknown name or option. */
function misfit(words: readonly string[]): string | undefined {
  const program = buildProgram({ execute: () => Promise.resolve(), writeOut: () => undefined });
  let command: Command = program;
  for (const word of words) {
    const next = command.commands.find((one) => one.name() === word);
    if (!next) break;
    command = next;
  }
  if (command === program) return `there is no command ${words[0]}`;
  const known = [...command.options, ...program.options].map(({ long }) => long);
  const options = words.join(" ").match(/--[a-z][a-z-]*/g) ?? [];
  const unknown = options.filter((option) => !known.includes(option));
  return unknown.length > 0 ? `${command.name()} knows no ${unknown.join()}` : undefined;
}

describe("commands in README and docs/", () => {
  it("are of a kind that is looked at here", async () => {
    for (const { place, words } of await commands()) {
      const line = words.join(" ");
      assert.match(
        line,
        /^(npm (install|test|start|run) ?|npx (millrace|supabase) |echo |WORKER_TOKEN=\$\(openssl)/,
        place,
      );
    }
  });

  it("can be read by a shell", async () => {
    for (const block of await readBlocks()) {
      if (block.language !== "sh") continue;
      const sh = spawnProcess("sh", { args: ["-nc", block.code.replaceAll(PLACEHOLDER, "given")] });
      assert.equal((await sh.exited).code, 0, `${placeOf(block)}: ${sh.output()}`);
    }
  });

  it("of npm name scripts and packages that are there", async () => {
    const { name, scripts, devDependencies } = JSON.parse(
      await readFile(`${ROOT}package.json`, "utf8"),
    );
    for (const { place, words } of await commands()) {
      const [program, verb = "", ...rest] = words;
      if (program !== "npm") continue;
      if (verb !== "install") {
        const script = verb === "run" ? (rest[0] ?? "") : verb;
        assert.ok(script in scripts, `${place}: ${words.join(" ")}`);
        continue;
      }
      for (const wanted of rest.filter((word) => !word.startsWith("-"))) {
        assert.ok(wanted === name || wanted in devDependencies, `${place}: ${words.join(" ")}`);
      }
    }
  });

  it("of ours have names and options that the program knows, in blocks and in the text", async () => {
    const found = (await commands()).flatMap(({ place, words: [npx, program, ...words] }) =>
      npx === "npx" && program === "millrace" ? [{ place, words }] : [],
    );
    for (const { path, text } of await readPages()) {
      for (const [, line = ""] of text.matchAll(/`(?:npx )?millrace ([^`]+)`/g)) {
        found.push({ place: path, words: line.split(/\s+/) });
      }
    }
    assert.ok(found.length > 30, String(found.length));
    for (const { place, words } of found) {
      assert.equal(misfit(words), undefined, `${place}: millrace ${words.join(" ")}`);
    }
  });

  it(
    "of the Supabase CLI have names and options that it knows",
    { skip: supabaseMissing },
    async () => {
      const asked = new Map<string, Set<string>>();
      for (const { words } of await commands()) {
        const [npx, program, ...rest] = words;
        if (npx !== "npx" || program !== "supabase") continue;
        const names = rest.slice(
          0,
          Math.max(
            0,
            rest.findIndex((word) => !/^[a-z]+$/.test(word)),
          ),
        );
        const key = (names.length > 0 ? names : rest).join(" ");
        const options = asked.get(key) ?? new Set();
        for (const word of rest) if (word.startsWith("--")) options.add(word);
        asked.set(key, options);
      }
      assert.deepEqual([...asked.keys()].sort(), [
        "db push",
        "functions deploy",
        "init",
        "link",
        "secrets set",
      ]);
      await Promise.all(
        [...asked].map(async ([names, options]) => {
          const help = spawnProcess(SUPABASE ?? "", { args: [...names.split(" "), "--help"] });
          assert.equal((await help.exited).code, 0, help.output());
          for (const option of options)
            assert.ok(help.output().includes(option), `${names} ${option}`);
        }),
      );
    },
  );
});

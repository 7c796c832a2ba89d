import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

export const ROOT: string = fileURLToPath(new URL("../../", import.meta.url));

/** A block of code of a page, as a reader copies it. */
export interface Block {
  /** From the root of the repository: `docs/failover.md`. */
  readonly page: string;
  /** Of its first line, from 1. */
  readonly line: number;
  readonly language: string;
  readonly code: string;
}

const FENCE = /^( *)```(\w*)$/;

export interface Page {
  readonly path: string;
  readonly text: string;
}

/** The pages that users read. */
export async function readPages(): Promise<Page[]> {
  const docs = (await readdir(`${ROOT}docs`)).filter((name) => name.endsWith(".md")).sort();
  const paths = ["README.md", "CONTRIBUTING.md", "bench/README.md"];
  for (const name of docs) paths.push(`docs/${name}`);
  return Promise.all(
    paths.map(async (path) => ({ path, text: await readFile(ROOT + path, "utf8") })),
  );
}

/** All blocks of these pages, in their order. */
export async function readBlocks(): Promise<Block[]> {
  return (await readPages()).flatMap(({ path, text }) => parseBlocks(path, text));
}

/** The blocks of one page in one language. */
export async function blocksOf(page: string, language: string): Promise<Block[]> {
  return (await readBlocks()).filter((one) => one.page === page && one.language === language);
}

function parseBlocks(page: string, text: string): Block[] {
  const blocks: Block[] = [];
  let open: { line: number; indent: number; language: string; code: string[] } | undefined;
  for (const [index, line] of text.split("\n").entries()) {
    const [, indent = "", language = ""] = FENCE.exec(line) ?? [];
    if (open) {
      if (!FENCE.test(line)) open.code.push(line.slice(open.indent));
      else {
        const { code, line: first, language: word } = open;
        blocks.push({ page, line: first, language: word, code: `${code.join("\n")}\n` });
        open = undefined;
      }
    } else if (FENCE.test(line)) {
      open = { line: index + 2, indent: indent.length, language, code: [] };
    }
  }
  if (open) throw new Error(`${page}:${open.line}: the block has no end`);
  return blocks;
}

/** `docs/failover.md:41` */
export function placeOf({ page, line }: Block): string {
  return `${page}:${line}`;
}

import { readdir, readFile } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { ROOT } from "./run.ts";

/** A TypeScript file of the repository. */
export interface SourceFile {
  /** From the root of the repository, with forward slashes. */
  readonly path: string;
  readonly text: string;
  readonly imports: readonly Import[];
}

/** One import, re-export or dynamic import. */
export interface Import {
  /** As written, such as `node:fs` or `./x.ts`. */
  readonly specifier: string;
  /** Path of the file it means; undefined for packages. */
  readonly target: string | undefined;
  /** Names taken from it; `*` for all of them. */
  readonly names: readonly string[];
  /** True for `import type`, of which nothing is left at run time. */
  readonly typeOnly: boolean;
}

/** Every TypeScript file in these folders of the repository, sorted by path. */
export async function sourceFiles(folders: readonly string[]): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  for (const folder of folders) {
    const names = await readdir(join(ROOT, folder), { recursive: true }).catch(() => []);
    for (const name of names.sort()) {
      if (!/\.tsx?$/.test(name) || name.includes("node_modules")) continue;
      const path = join(folder, name).split(sep).join("/");
      files.push(parseSource(path, await readFile(join(ROOT, path), "utf8")));
    }
  }
  return files;
}

/** Reads the imports with patterns: our formatter leaves but one way to write each of them. */
export function parseSource(path: string, text: string): SourceFile {
  const imports: Import[] = [];
  const add = (specifier: string, names: string[], typeOnly: boolean): void => {
    imports.push({ specifier, target: targetOf(path, specifier), names, typeOnly });
  };
  const code = text.replaceAll(/^\s*(?:\/\/|\/?\*).*$/gm, "");
  for (const found of code.matchAll(
    /^(?:import|export)\s+(type\s+)?([^;"']*?)\s*from\s+"([^"]+)"/gm,
  )) {
    add(found[3] ?? "", namesOf(found[2] ?? ""), found[1] !== undefined);
  }
  for (const found of code.matchAll(/^import\s+"([^"]+)"/gm)) add(found[1] ?? "", [], false);
  for (const found of code.matchAll(/\bimport\(\s*"([^"]+)"/g)) add(found[1] ?? "", ["*"], false);
  return { path, text, imports };
}

/** `{ a, type B, c as d }` takes a, B and c; `* as x`, and a default import, take everything. */
function namesOf(clause: string): string[] {
  const braces = /\{([\s\S]*)\}/.exec(clause);
  if (!braces) return ["*"];
  return (braces[1] ?? "")
    .split(",")
    .map((part) =>
      part
        .trim()
        .replace(/^type\s+/, "")
        .replace(/\s+as\s+.*$/, ""),
    )
    .filter((name) => name !== "");
}

function targetOf(path: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  return relative(ROOT, join(ROOT, dirname(path), specifier))
    .split(sep)
    .join("/");
}

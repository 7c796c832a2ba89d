import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CliError } from "../cli-error.ts";
import type { ProjectFile } from "./template.ts";

/** What becomes of a file; `differs`: it is there with other content, and is left alone. */
export type FileState = "created" | "unchanged" | "replaced" | "appended" | "differs";

export interface PlannedFile extends ProjectFile {
  readonly state: FileState;
}

/** Looks what is in the project already. Changes nothing. */
export function planFiles(
  projectDir: string,
  files: readonly ProjectFile[],
  { mayReplace }: { readonly mayReplace: boolean },
): Promise<PlannedFile[]> {
  return Promise.all(
    files.map(async (file) => {
      const there = await readText(join(projectDir, file.path));
      if (there === undefined) return { ...file, state: "created" };
      // Git may have given it other line ends.
      if (there.replaceAll("\r\n", "\n") === file.text) return { ...file, state: "unchanged" };
      return { ...file, state: mayReplace ? "replaced" : "differs" };
    }),
  );
}

/** Writes what is to be created, replaced or appended. */
export async function writeFiles(projectDir: string, files: readonly PlannedFile[]): Promise<void> {
  for (const { path, text, state } of files) {
    if (state === "unchanged" || state === "differs") continue;
    const target = join(projectDir, path);
    try {
      await mkdir(dirname(target), { recursive: true });
      await writeFile(target, text);
    } catch (cause) {
      throw cannot("write", target, cause);
    }
  }
}

/** A file's text; undefined when there is none. */
export async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const { code } = cause as { code?: string };
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw cannot("read", path, cause);
  }
}

function cannot(verb: "read" | "write", path: string, cause: unknown): CliError {
  return new CliError({
    code: verb === "read" ? "CANNOT_READ" : "CANNOT_WRITE",
    what: `${path} can't be ${verb === "read" ? "read" : "written"}`,
    why: cause instanceof Error ? cause.message : String(cause),
    fix: "Mend that and run the same command again: what it has written stays",
    cause,
  });
}

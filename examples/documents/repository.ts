import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder that holds all of this. */
export const REPOSITORY = fileURLToPath(new URL("../../", import.meta.url));

const NOT_OURS = new Set(["node_modules", "dist"]);

/** Every Markdown file, by its path from the root; folders of other people and hidden ones are left out. */
export async function findDocuments(folder = ""): Promise<string[]> {
  const entries = await readdir(join(REPOSITORY, folder), { withFileTypes: true });
  const found = await Promise.all(
    entries.map(async (entry) => {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.isFile()) return entry.name.endsWith(".md") ? [path] : [];
      const isOurs =
        entry.isDirectory() && !entry.name.startsWith(".") && !NOT_OURS.has(entry.name);
      return isOurs ? findDocuments(path) : [];
    }),
  );
  return found.flat().sort();
}

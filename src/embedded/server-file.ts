import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { giveToOwner } from "./home.ts";

/** What must be remembered between runs: who may log in, and the port that URLs in use name. */
export interface ServerFile {
  readonly superuser: string;
  readonly password: string;
  readonly port?: number;
}

/** Reads `<home>/server.json`; undefined when there is none or it is damaged. */
export async function readServerFile(home: string): Promise<ServerFile | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(home, "server.json"), "utf8"));
    return isServerFile(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Written aside and renamed, so that a crash leaves the old one; readable by its owner only. */
export async function writeServerFile(home: string, file: ServerFile): Promise<void> {
  const path = join(home, "server.json");
  await writeFile(`${path}.new`, JSON.stringify(file), { mode: 0o600 });
  await giveToOwner(`${path}.new`, home);
  await rename(`${path}.new`, path);
}

function isServerFile(value: unknown): value is ServerFile {
  return (
    typeof value === "object" &&
    value !== null &&
    "superuser" in value &&
    typeof value.superuser === "string" &&
    "password" in value &&
    typeof value.password === "string"
  );
}

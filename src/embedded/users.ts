import { randomBytes } from "node:crypto";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { giveToOwner } from "./home.ts";
import { isAlive } from "./process-alive.ts";

/**
 * The processes that use a local server, one file each, named by process id: the last one to leave
 * stops the server. Processes that died without leaving do not count.
 */
export async function joinUsers(home: string): Promise<string> {
  const folder = join(home, "users");
  await mkdir(folder, { recursive: true, mode: 0o755 });
  await giveToOwner(folder, home);
  const ticket = `${process.pid}.${randomBytes(4).toString("hex")}`;
  await writeFile(join(folder, ticket), "");
  return ticket;
}

/** Gives the ticket back and returns how many live users are left. */
export async function leaveUsers(home: string, ticket: string): Promise<number> {
  const folder = join(home, "users");
  await rm(join(folder, ticket), { force: true });
  let left = 0;
  for (const name of await readdir(folder).catch(() => [])) {
    if (isAlive(Number.parseInt(name, 10))) left += 1;
    else await rm(join(folder, name), { force: true });
  }
  return left;
}

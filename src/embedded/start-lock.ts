import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isAlive } from "./process-alive.ts";

/**
 * Runs `work` while no other process starts or stops the server of this folder. The lock is a file
 * that names its holder; a dead holder's lock is taken over.
 */
export async function withStartLock<T>(
  home: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const path = join(home, "lock");
  while (!(await tryTake(path))) {
    signal?.throwIfAborted();
    await removeIfStale(path);
    await delay(25);
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

async function tryTake(path: string): Promise<boolean> {
  try {
    await writeFile(path, String(process.pid), { flag: "wx", mode: 0o600 });
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw error;
  }
}

async function removeIfStale(path: string): Promise<void> {
  const holder = await readHolder(path);
  if (holder === undefined || isAlive(holder)) return;
  // Renaming first lets only one of several waiters remove it; the second look guards against a
  // lock that was taken anew in between.
  const aside = `${path}.${process.pid}`;
  try {
    await rename(path, aside);
    if ((await readHolder(aside)) === holder) await rm(aside, { force: true });
    else await rename(aside, path);
  } catch {
    // Another waiter was quicker.
  }
}

async function readHolder(path: string): Promise<number | undefined> {
  try {
    const pid = Number(await readFile(path, "utf8"));
    // Empty: its holder has created it and is about to write its pid.
    return pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

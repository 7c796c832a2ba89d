import { mkdir, mkdtemp, open, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findPostmaster } from "../../src/embedded/postmaster-file.ts";
import { isAlive } from "../../src/embedded/process-alive.ts";
import { runProgram } from "../../src/embedded/run-program.ts";

/** Where the campaign keeps its files. */
export interface Disk {
  /** For journals. */
  readonly folder: string;
  /** For the servers' data; a file system of its own where that can be had. */
  readonly data: string;
  /** Why it can't be filled up; undefined when it can. */
  readonly unfillable: string | undefined;
  /** Takes all room that is left, until the answered function is called. */
  fill(): Promise<() => Promise<void>>;
  remove(): Promise<void>;
}

const NAME = /^millrace-faults-(\d+)-/;
const SIZE = "1500m";
const CHUNK = Buffer.alloc(1 << 20);

/** A folder, and within it a small file system in memory if this process may mount one. */
export async function makeDisk(): Promise<Disk> {
  await removeLeftovers();
  const folder = await mkdtemp(join(tmpdir(), `millrace-faults-${process.pid}-`));
  const data = join(folder, "data");
  await mkdir(data);
  const { code, output } = await runProgram("/bin/sh", [
    "-c",
    'chmod 711 "$1" && mount -t tmpfs -o "size=$2,mode=711" millrace-faults "$1/data"',
    "mount",
    folder,
    SIZE,
  ]);
  const ballast = join(data, "ballast");
  return {
    folder,
    data,
    unfillable: code === 0 ? undefined : `no file system of its own: ${output.trim()}`,
    async fill() {
      const file = await open(ballast, "w");
      try {
        for (;;) await file.write(CHUNK);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      } finally {
        await file.close();
      }
      return () => rm(ballast, { force: true });
    },
    remove: () => removeFolder(folder),
  };
}

async function removeFolder(folder: string): Promise<void> {
  await runProgram("/bin/umount", ["-l", join(folder, "data")]);
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const owner = NAME.exec(name)?.[1];
    if (owner === undefined || isAlive(Number(owner))) continue;
    const folder = join(tmpdir(), name);
    for (const cluster of await readdir(join(folder, "data")).catch(() => [])) {
      const postmaster = await findPostmaster(join(folder, "data", cluster, "cluster"));
      if (postmaster) process.kill(postmaster.pid, "SIGQUIT");
    }
    await removeFolder(folder);
  }
}

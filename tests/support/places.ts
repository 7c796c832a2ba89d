import { statfs } from "node:fs/promises";
import { freemem, tmpdir } from "node:os";

/** Linux keeps this folder in memory. */
const IN_MEMORY = "/dev/shm";
const GIB = 1024 ** 3;
/** The clusters of a run grow to some 4 GiB. */
const NEEDED_BYTES = 8 * GIB;

/** Where folders of test runs may be: what a killed run left is in one of these. */
export const PLACES: readonly string[] = [tmpdir(), IN_MEMORY];

/**
 * Where to put clusters: in memory where there is plenty of it. A new database is some thousand files, which a disk takes ten times
 * as long for, and a run makes several hundred.
 */
export async function placeOfClusters(): Promise<string> {
  const free = await statfs(IN_MEMORY).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => 0,
  );
  const memory = process.availableMemory?.() ?? freemem();
  return Math.min(free, memory) >= NEEDED_BYTES ? IN_MEMORY : tmpdir();
}

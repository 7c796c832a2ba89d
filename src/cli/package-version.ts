import { readFileSync } from "node:fs";

/** From src/cli/ and from dist/cli/ the package's root is as far away. */
const PACKAGE_FILE = new URL("../../package.json", import.meta.url);

/** The version of this package. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(PACKAGE_FILE, "utf8")) as { version: string };
  return version;
}

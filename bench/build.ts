// What runs in the peers' processes is compiled first: users run JavaScript, and a process that strips types itself needs some 40 MB more.

import { execFileSync } from "node:child_process";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const built = `${root}bench/built/`;

/** Compiles the peers and the library into `bench/built/`, with the migrations beside them. */
export function build(): void {
  rmSync(built, { recursive: true, force: true });
  const compiler = `${root}node_modules/typescript/bin/tsc`;
  execFileSync(process.execPath, [compiler, "-p", `${root}bench/tsconfig.build.json`], {
    stdio: "inherit",
  });
  writeFileSync(`${built}package.json`, '{ "type": "module" }\n');
  cpSync(`${root}supabase/migrations`, `${built}supabase/migrations`, { recursive: true });
}

/** The compiled script of a peer. */
export function scriptOf(script: string): string {
  return `${built}bench/peers/${script.replace(/\.ts$/, ".js")}`;
}

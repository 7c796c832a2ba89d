import type { Environment } from "../../embedded/run-program.ts";

/** How a person calls this program from a second terminal: our own repository has a script for it. */
export function callName(env: Environment): string {
  return env["npm_package_name"] === "millrace" ? "npm run -s millrace --" : "npx millrace";
}

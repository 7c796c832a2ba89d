import { existsSync } from "node:fs";

/** Where Debian keeps the oldest Postgres that Millrace supports. */
export const DEBIAN_15 = "/usr/lib/postgresql/15/bin";

/** The major versions that every suite runs on; `MILLRACE_TEST_POSTGRES=18` picks some of them. */
export const MAJORS: readonly number[] = pickMajors();

function pickMajors(): number[] {
  const picked = process.env["MILLRACE_TEST_POSTGRES"];
  const all = [18, 15];
  return picked ? all.filter((major) => picked.split(",").includes(String(major))) : all;
}

/** Why a version cannot be tested on this machine, or undefined when it can. */
export function missingMajor(major: number): string | undefined {
  return major === 15 && !existsSync(DEBIAN_15) ? "needs Debian package postgresql-15" : undefined;
}

import { randomBytes } from "node:crypto";
import type { TestDatabase } from "./database.ts";

/** Makes a role as plain hosts give it to their customers: it may log in and make roles, and row level security holds for it. */
export async function createOwner({ superSql, superUrl }: TestDatabase): Promise<string> {
  const role = `owner_${randomBytes(4).toString("hex")}`;
  const { password } = new URL(superUrl);
  await superSql.unsafe(`create role ${role} login createrole nobypassrls password '${password}'`);
  return role;
}

import { NotAllowedError, SchemaVersionError } from "../../core/database-errors.ts";
import { edgeStatus } from "../../db/inspect-edge.ts";
import { type ServerFacts, serverFacts } from "../../db/inspect-server.ts";
import { SCHEMA_VERSION, schemaVersion, stillServes } from "../../db/schema-version.ts";
import type { Sql } from "../../db/sql.ts";
import { explainError } from "../explain-error.ts";
import { checkCron, checkDoorbell, checkRings } from "./edge-checks.ts";
import { type Finding, fault, ok, skipped, type Verdict } from "./finding.ts";
import {
  checkHandlers,
  checkLeases,
  checkMigrations,
  checkPartitions,
  checkPrivileges,
  checkSchemaVersion,
  checkWorkers,
} from "./queue-checks.ts";
import { checkRecords, checkReplication, checkStart } from "./recovery-checks.ts";
import {
  checkAutovacuum,
  checkClockSkew,
  checkDurability,
  checkListen,
  checkNotifications,
  checkSnapshots,
  checkVersion,
} from "./server-checks.ts";

/** Runs every check that makes sense after the ones before it. Never rejects: what fails is a finding. */
export async function examine(sql: Sql, stop: AbortSignal): Promise<Finding[]> {
  const findings: Finding[] = [];
  const check = async (name: string, look: () => Verdict | Promise<Verdict>): Promise<void> => {
    findings.push({ check: name, ...(await guarded(look)) });
  };

  const server = await meetServer(sql).catch((error: unknown) => error);
  if (!isMeeting(server)) return [unreachable(server)];
  const { facts, sentMs, receivedMs } = server;
  await check("reachable", () => ok(`Database ${facts.database} answers`));
  await check("credentials", () => ok(`Signed in as ${facts.user}`));
  await check("version", () => checkVersion(facts));
  await check("durability", () => checkDurability(facts));
  await check("replication", () => checkReplication(sql));
  await check("clock", () => checkClockSkew({ serverMs: facts.now_ms, sentMs, receivedMs }));
  await check("listen", () => checkListen(sql, stop));
  await check("notifications", () => checkNotifications(facts));
  await check("snapshots", () => checkSnapshots(sql));
  await check("autovacuum", () => checkAutovacuum(sql, facts));

  let isInstalled = true;
  await check("schema", async () => {
    const version = await schemaVersion(sql);
    isInstalled = version !== null;
    const isNewer = version !== null && version > SCHEMA_VERSION;
    return checkSchemaVersion(version, isNewer && (await stillServes(sql)));
  });
  await check("migrations", () => checkMigrations(sql));
  if (!isInstalled) return findings;
  await check("privileges", () => checkPrivileges(sql, facts.user));
  await check("records", () => checkRecords(sql));
  await check("start", () => checkStart(sql));
  await check("workers", () => checkWorkers(sql));
  await check("handlers", () => checkHandlers(sql));
  await check("leases", () => checkLeases(sql));
  await check("partitions", () => checkPartitions(sql));
  await check("doorbell", async () => checkDoorbell(await edgeStatus(sql)));
  await check("rings", async () => checkRings(await edgeStatus(sql)));
  await check("cron", async () => checkCron(await edgeStatus(sql)));
  return findings;
}

interface Meeting {
  readonly facts: ServerFacts;
  readonly sentMs: number;
  readonly receivedMs: number;
}

async function meetServer(sql: Sql): Promise<Meeting> {
  // The first statement pays for the connection; the second tells the time.
  await serverFacts(sql);
  const sentMs = Date.now();
  const facts = await serverFacts(sql);
  return { facts, sentMs, receivedMs: Date.now() };
}

function isMeeting(value: unknown): value is Meeting {
  return typeof value === "object" && value !== null && "facts" in value;
}

function unreachable(error: unknown): Finding {
  const { code, message, why, fix } = explainError(error);
  const check = code === "DATABASE_CREDENTIALS" ? "credentials" : "reachable";
  return { check, ...fault(message, why, fix) };
}

async function guarded(look: () => Verdict | Promise<Verdict>): Promise<Verdict> {
  try {
    return await look();
  } catch (error) {
    if (error instanceof NotAllowedError) return skipped("This role may not look at that");
    if (error instanceof SchemaVersionError) return skipped("The schema does not fit this program");
    const { message, why, fix } = explainError(error);
    return fault(message, why, fix);
  }
}

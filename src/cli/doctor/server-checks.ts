import { ListenUnavailableError } from "../../core/database-errors.ts";
import { oldSnapshots, unvacuumedTables } from "../../db/inspect-queue.ts";
import { OLDEST_MAJOR, type ServerFacts } from "../../db/inspect-server.ts";
import type { Sql } from "../../db/sql.ts";
import { countOf, duration } from "../output/words.ts";
import { fault, ok, type Verdict, warning } from "./finding.ts";

/** A transaction this old keeps enough dead rows to be felt. */
const OLD_SNAPSHOT_SECONDS = 600;
const CLOCK_SKEW_MS = 2_000;

export function checkVersion({ version, major }: ServerFacts): Verdict {
  if (major >= OLDEST_MAJOR) return ok(`Postgres ${version}`);
  return fault(
    `Postgres ${version} is older than ${OLDEST_MAJOR}`,
    "The queue's SQL uses what newer servers have",
    "Upgrade the server",
  );
}

export function checkDurability({ settings }: ServerFacts): Verdict {
  const off = (["synchronous_commit", "fsync", "full_page_writes"] as const).filter(
    (name) => settings[name] === "off",
  );
  if (off.length === 0) return ok("Committed jobs survive a crash of the server");
  return warning(
    `${off.join(" and ")} ${off.length === 1 ? "is" : "are"} off`,
    "A crash of the server can lose jobs whose enqueue was acknowledged",
    off.map((name) => `alter system set ${name} = on`).join("; "),
  );
}

export interface ClockReading {
  readonly serverMs: number;
  readonly sentMs: number;
  readonly receivedMs: number;
}

/** The server read its clock somewhere between our sending and receiving. */
export function checkClockSkew({ serverMs, sentMs, receivedMs }: ClockReading): Verdict {
  const early = sentMs - serverMs;
  const late = serverMs - receivedMs;
  const skew = Math.max(early, late, 0);
  if (skew <= CLOCK_SKEW_MS) return ok("This machine's clock agrees with the server's");
  return warning(
    `This machine's clock is ${duration(skew)} ${early > late ? "ahead of" : "behind"} the server's`,
    "The queue goes by the server's clock; absolute times computed here (`--at`) mean another moment there",
    "Synchronise both machines with NTP, or give delays (`--in`) instead of times",
  );
}

/** From here on the queue sends none: see queue.may_notify. */
const FULL_QUEUE = 0.5;

export function checkNotifications({ notify_usage: usage }: ServerFacts): Verdict {
  const percent = Math.round(usage * 100);
  if (usage <= FULL_QUEUE) return ok(`The server's queue of notifications is ${percent} % full`);
  return warning(
    `The server's queue of notifications is ${percent} % full`,
    "A session that listens has been in a transaction for long. Workers are not woken until the queue is below half; they poll instead",
    "Find it: select pid, usename, application_name, xact_start from pg_stat_activity where state like 'idle in transaction%' order by xact_start, and end it with pg_terminate_backend(pid)",
  );
}

export async function checkListen(sql: Sql, stop: AbortSignal): Promise<Verdict> {
  if (!sql.listen) {
    return warning(
      "A pooler in transaction mode stands between, so LISTEN is not tried",
      "Workers poll instead: a job may wait up to a second before it is picked up",
      "Nothing has to be done; a direct address (Supabase: port 5432) wakes workers at once",
    );
  }
  const end = new AbortController();
  try {
    await sql.listen(["millrace_doctor"], () => undefined, {
      signal: AbortSignal.any([end.signal, stop]),
    });
    return ok("LISTEN works: workers wake at once");
  } catch (error) {
    if (!(error instanceof ListenUnavailableError)) throw error;
    return warning(
      "Notifications do not arrive",
      "A pooler in transaction mode swallows them; workers poll instead, and a job may wait up to a second",
      "Use a direct address (Supabase: port 5432), or add ?pgbouncer=true to the URL",
    );
  } finally {
    end.abort();
  }
}

export async function checkSnapshots(sql: Sql): Promise<Verdict> {
  const { transactions, prepared, seesAll } = await oldSnapshots(sql, OLD_SNAPSHOT_SECONDS);
  const [oldest] = transactions;
  if (oldest) {
    const name = oldest.application === "" ? "" : ` (${oldest.application})`;
    return warning(
      `Session ${oldest.pid}${name} has been ${oldest.state} in a transaction for ${duration(oldest.seconds * 1_000)}`,
      "While it is open, no row that died since can be vacuumed, in any table",
      `End that transaction, or: select pg_terminate_backend(${oldest.pid})`,
    );
  }
  if (prepared > 0) {
    return warning(
      `${countOf(prepared, "prepared transaction")} ${prepared === 1 ? "was" : "were"} left open`,
      "While they are open, no row that died since can be vacuumed, in any table",
      "Look into pg_prepared_xacts; commit prepared or rollback prepared",
    );
  }
  return ok(`No transaction is old${seesAll ? "" : ", as far as this role can see"}`);
}

export async function checkAutovacuum(sql: Sql, { settings }: ServerFacts): Promise<Verdict> {
  if (settings.autovacuum === "off") {
    return fault(
      "Autovacuum is off",
      "The queue's tokens come and go all the time; without vacuum their tables only grow",
      "alter system set autovacuum = on; then: select pg_reload_conf()",
    );
  }
  const tables = await unvacuumedTables(sql);
  if (tables.length === 0) return ok("Autovacuum is on");
  return fault(
    `Autovacuum is switched off for ${tables.join(", ")}`,
    "Tables whose rows come and go must be vacuumed often",
    tables.map((table) => `alter table queue.${table} reset (autovacuum_enabled)`).join("; "),
  );
}

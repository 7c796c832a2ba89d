import { raceSignal } from "../../core/signals.ts";
import { sharedBuffers } from "../../db/bench-database.ts";
import { checkServerVersion, serverFacts } from "../../db/inspect-server.ts";
import { migrate } from "../../db/migrate.ts";
import type { Sql } from "../../db/sql.ts";
import { measure, type Sizes } from "../bench/measure.ts";
import { makeOwnDatabase, removeLeftovers } from "../bench/own-database.ts";
import { type Measured, toJson, toLines } from "../bench/report.ts";
import { CliError } from "../cli-error.ts";
import { type CliContext, type CommandResult, interruptedError } from "../context.ts";
import { openDatabase } from "../database.ts";
import type { Verdict } from "../doctor/finding.ts";
import { checkDurability, checkListen } from "../doctor/server-checks.ts";

export type BenchOptions = Sizes;

/** Measures the queue on the user's server, in a database that is made for it and dropped afterwards. */
export async function bench(context: CliContext, sizes: BenchOptions): CommandResult {
  try {
    await benchOnce(context, sizes);
    return undefined;
  } catch (error) {
    if (!context.interrupts.stop.aborted || error instanceof CliError) throw error;
    throw interruptedError("Interrupted before everything was measured");
  }
}

async function benchOnce(context: CliContext, sizes: Sizes): Promise<void> {
  const { terminal, isJson, interrupts } = context;
  const { stop } = interrupts;
  const opened = await openDatabase(context, { schema: "any" });
  const facts = await raceSignal(checkServerVersion(opened.sql), stop);
  const removed = await raceSignal(removeLeftovers(context, opened.sql), stop);
  stop.throwIfAborted();

  const own = await makeOwnDatabase(context, opened, facts);
  if (!isJson) {
    for (const name of removed) terminal.say(`Dropped ${name}, which an earlier run left behind`);
    terminal.say(`Measuring in ${own.name} beside ${opened.place}; it is dropped in the end`);
  }
  await raceSignal(migrate(own.sql), stop);
  const { measured, notes } = await look(own.sql, opened.place, stop);
  const figures = await measure(context, own.sql, sizes);

  if (isJson) {
    terminal.event({ ...toJson(measured, figures, sizes), removed_leftovers: removed });
  } else {
    terminal.lines(toLines(measured, { figures, sizes, notes }, terminal.style));
  }
  await own.drop();
}

/** What the figures depend on, as the sessions see it that are measured. */
async function look(
  sql: Sql,
  place: string,
  stop: AbortSignal,
): Promise<{ measured: Measured; notes: readonly Verdict[] }> {
  const facts = await raceSignal(serverFacts(sql), stop);
  const { synchronous_commit, fsync, full_page_writes } = facts.settings;
  const shared_buffers = await raceSignal(sharedBuffers(sql), stop);
  const durability = checkDurability(facts);
  const listen = await raceSignal(checkListen(sql, stop), stop);
  return {
    measured: {
      database: place,
      version: facts.version,
      settings: { synchronous_commit, fsync, full_page_writes, shared_buffers },
      wakes: listen.severity === "ok",
    },
    notes: [durability, listen].filter(({ severity }) => severity !== "ok"),
  };
}

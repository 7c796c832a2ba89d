import { join } from "node:path";
import { LocalPlatformError } from "../../local/errors.ts";
import { findFunctions } from "../../local/find-functions.ts";
import { type LocalPlatformHandle, startLocalPlatform } from "../../local/start-local-platform.ts";
import type { CliContext } from "../context.ts";
import type { OpenDatabase } from "../database.ts";
import { tellFunctionEvent } from "./function-lines.ts";

/** The functions that `millrace dev` serves. */
export interface DevFunctions {
  readonly platform: LocalPlatformHandle;
  readonly names: readonly string[];
}

export interface DevFunctionsOptions {
  readonly database: OpenDatabase;
  /** Install stand-ins in a database that was given, too. */
  readonly standIns: boolean;
  readonly port: number | undefined;
  /** Whether there is something to do without functions. */
  readonly mayLackDeno: boolean;
}

/** Whether there is anything in `supabase/functions/` of this folder. */
export async function hasFunctions({ cwd }: CliContext): Promise<boolean> {
  return (await findFunctions(join(cwd, "supabase", "functions"))).length > 0;
}

/** Serves `supabase/functions/` until the command ends; undefined when Deno is missing and that is no reason to end. */
export async function startDevFunctions(
  context: CliContext,
  { database, standIns, port, mayLackDeno }: DevFunctionsOptions,
): Promise<DevFunctions | undefined> {
  const { terminal, interrupts } = context;
  try {
    const platform = await startLocalPlatform({
      projectDir: context.cwd,
      sql: database.sql,
      databaseUrl: database.url,
      // Somebody else's database gets nothing that nobody asked for.
      hasStandIns: database.source === "local" || standIns,
      env: context.env,
      port,
      onKeys: ({ publishableKey: _public, anonKey: _open, ...secrets }) =>
        terminal.hideSecrets(Object.values(secrets)),
      onEvent: (event) => tellFunctionEvent(context, event),
      onPumpError: tellOnce(context),
    });
    const force = (): void => void platform.stop({ isForced: true });
    interrupts.force.addEventListener("abort", force, { once: true });
    context.onEnd(async () => {
      await platform.stop({ isForced: interrupts.force.aborted });
      interrupts.force.removeEventListener("abort", force);
    });
    return { platform, names: await platform.server.names() };
  } catch (error) {
    if (!(error instanceof LocalPlatformError && error.code === "DENO_NOT_FOUND" && mayLackDeno)) {
      throw error;
    }
    notice(
      context,
      error.code,
      `supabase/functions is not served. ${error.message}. ${error.hint}`,
    );
    return undefined;
  }
}

/** The pump tries again every second; that the database is away is said once. */
function tellOnce(context: CliContext): (error: unknown) => void {
  let told = "";
  return (error) => {
    const text = error instanceof Error ? error.message : String(error);
    if (text === told) return;
    told = text;
    notice(context, "doorbell.failed", `The doorbell's requests can't be read: ${text}`);
  };
}

function notice({ terminal, isJson }: CliContext, event: string, message: string): void {
  if (isJson) terminal.event({ event, at: new Date().toISOString(), message });
  else terminal.say(`  ${terminal.talkStyle("notice", `! ${message}`)}`);
}

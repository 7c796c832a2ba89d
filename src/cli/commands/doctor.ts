import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { examine } from "../doctor/examine.ts";
import type { Finding } from "../doctor/finding.ts";
import type { Style } from "../output/style.ts";
import { fit } from "../output/table.ts";
import { countOf } from "../output/words.ts";

/** `doctor` has exit codes of its own, so that a script can tell a warning from a fault. */
const EXIT_BY_SEVERITY = { ok: 0, skipped: 0, warning: 1, error: 2 } as const;

const LOOKS = {
  ok: { symbol: "✓", tone: "good" },
  warning: { symbol: "!", tone: "notice" },
  error: { symbol: "✗", tone: "bad" },
  skipped: { symbol: "–", tone: "faint" },
} as const;

/** Checks database, schema and workers. */
export async function doctor(context: CliContext): CommandResult {
  const { sql, place } = await openDatabase(context, { schema: "any" });
  const findings = await examine(sql, context.interrupts.stop);
  const worst = Math.max(...findings.map(({ severity }) => EXIT_BY_SEVERITY[severity]));
  const { terminal } = context;
  if (context.isJson) {
    const status = (["ok", "warning", "error"] as const)[worst];
    terminal.event({ status, database: place, findings: findings.map(complete) });
    return worst;
  }
  terminal.line(`Database ${place}`);
  terminal.line();
  const width = Math.max(...findings.map(({ check }) => check.length));
  for (const finding of findings) terminal.lines(describe(finding, width, terminal.style));
  terminal.line();
  terminal.line(summary(findings));
  return worst;
}

/** The same fields in every finding. */
function complete({
  check,
  severity,
  message,
  reason = null,
  fix = null,
}: Omit<Finding, "reason" | "fix"> & {
  readonly reason?: string | null | undefined;
  readonly fix?: string | null | undefined;
}): object {
  return { check, severity, message, reason, fix };
}

function describe(
  { check, severity, message, reason, fix }: Finding,
  width: number,
  style: Style,
): string[] {
  const { symbol, tone } = LOOKS[severity];
  const margin = " ".repeat(width + 6);
  return [
    `  ${style(tone, symbol)} ${fit(check, width)}  ${message}`,
    ...(reason ? [`${margin}${style("faint", "why")}  ${reason}`] : []),
    ...(fix
      ? [`${margin}${style("faint", "fix")}  ${fix.replaceAll("\n", `\n${margin}     `)}`]
      : []),
  ];
}

function summary(findings: readonly Finding[]): string {
  const faults = findings.filter(({ severity }) => severity === "error").length;
  const warnings = findings.filter(({ severity }) => severity === "warning").length;
  if (faults + warnings === 0) return "All is well.";
  const parts = [
    ...(faults > 0 ? [countOf(faults, "fault")] : []),
    ...(warnings > 0 ? [countOf(warnings, "warning")] : []),
  ];
  return `${parts.join(", ")}.`;
}

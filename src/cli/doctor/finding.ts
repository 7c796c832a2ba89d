/** What one check found. */
export interface Finding {
  readonly check: string;
  readonly severity: "ok" | "warning" | "error" | "skipped";
  /** What is so, in one sentence without a trailing period. */
  readonly message: string;
  /** Why that matters, or where it comes from. */
  readonly reason?: string | undefined;
  readonly fix?: string | undefined;
}

export type Verdict = Omit<Finding, "check">;

export function ok(message: string): Verdict {
  return { severity: "ok", message };
}

export function skipped(message: string): Verdict {
  return { severity: "skipped", message };
}

export function warning(message: string, reason: string, fix: string): Verdict {
  return { severity: "warning", message, reason, fix };
}

export function fault(
  message: string,
  reason: string | undefined,
  fix: string | undefined,
): Verdict {
  return { severity: "error", message, reason, fix };
}

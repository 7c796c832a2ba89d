import { EXIT } from "./exit-codes.ts";

export interface CliErrorParts {
  /** A constant that programs can compare, such as `UNKNOWN_JOB`. */
  readonly code: string;
  /** What happened, in one sentence without a trailing period. */
  readonly what: string;
  readonly why?: string | undefined;
  /** How to mend it: a sentence or a command. */
  readonly fix?: string | undefined;
  /** @default EXIT.failure */
  readonly exitCode?: number | undefined;
  readonly cause?: unknown;
}

/** A failure that is expected: it is shown as what, why and fix, without a stack. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly code: string;
  readonly why: string | undefined;
  readonly fix: string | undefined;
  readonly exitCode: number;

  constructor({ code, what, why, fix, exitCode = EXIT.failure, cause }: CliErrorParts) {
    super(what, cause === undefined ? undefined : { cause });
    this.code = code;
    this.why = why;
    this.fix = fix;
    this.exitCode = exitCode;
  }
}

/** The arguments make no sense. */
export function usageError(what: string, fix?: string): CliError {
  return new CliError({ code: "USAGE", what, fix, exitCode: EXIT.usage });
}

/** What the process says to its caller when it ends; documented in docs/cli.md. */
export const EXIT = {
  ok: 0,
  /** The command was understood and could not do what was asked. */
  failure: 1,
  /** The arguments make no sense. */
  usage: 2,
  /** The database cannot be used: unreachable, refuses us, or is too old. */
  database: 3,
  /** The queue is not installed there, or in another version. */
  schema: 4,
  /** Ctrl-C, or a second signal that cut a graceful stop short. */
  interrupted: 130,
} as const;

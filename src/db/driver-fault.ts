/**
 * Whether an error that nobody could catch is a known fault of postgres.js (3.4): when a connection closes in the wrong moment the driver
 * writes to it all the same, from a timer of its own (github.com/porsager/postgres issues 1066, 1154 and 1208). The statement that was to be sent is given up by
 * its caller after a while, and the client is replaced, so a process may go on: for a listener of `uncaughtException`, which would
 * otherwise end it.
 */
export function isDriverFault(error: unknown): boolean {
  if (!(error instanceof TypeError)) return false;
  return /\n\s+at (?:Immediate\.|\w+\.)?nextWrite \(.*postgres\/(?:src|cjs\/src|cf\/src)\/connection\.js/.test(
    error.stack ?? "",
  );
}

export { type ConnectOptions, connect } from "./connect.ts";
export { isDriverFault } from "./driver-fault.ts";
export { fromPostgresJs } from "./postgres-js-handle.ts";
export type { TlsOptions } from "./socket.ts";

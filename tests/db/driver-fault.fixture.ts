// Writes to a reserved connection whose server process has ended: postgres.js then throws where nobody can catch it.
import postgres from "postgres";
import { isDriverFault } from "../../src/db/postgres-js.ts";

process.on("uncaughtException", (error) => {
  console.log(isDriverFault(error) ? "known" : `unknown: ${error.stack}`);
  process.exit(0);
});
setTimeout(() => process.exit(2), 20_000);

const url = process.argv[2] ?? "";
let onClose = (): void => undefined;
const closed = new Promise<void>((resolve) => {
  onClose = resolve;
});
const sql = postgres(url, { max: 1, fetch_types: false, onclose: () => onClose() });
const killer = postgres(url, { max: 1, fetch_types: false });
// A first connection that is to be reserved would never be handed out.
await sql`select 1`;
const reserved = await sql.reserve();
const [row] = await reserved<{ pid: number }[]>`select pg_backend_pid() as pid`;
await killer`select pg_terminate_backend(${row?.pid ?? 0})`;
await closed;
await reserved`select 1`.catch(() => undefined);

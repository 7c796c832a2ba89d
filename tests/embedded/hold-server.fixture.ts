/** Starts the local server of the folder in its first argument, prints its URL, and never stops it. */
import { startLocalPostgres } from "../../src/embedded/start-local-postgres.ts";

const [dataDir = ""] = process.argv.slice(2);
const server = await startLocalPostgres({ dataDir, binaries: "embedded", fsync: false });
console.log(`holding ${server.pid} ${server.url}`);
setInterval(() => {}, 1000);

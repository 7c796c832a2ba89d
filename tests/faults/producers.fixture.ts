/** The process of all producers of the fault campaign. Its arguments: its folder, the seed, the lease, bulk jobs a minute, then `name=way=url`. */
import process from "node:process";
import { isDriverFault } from "../../src/db/postgres-js.ts";
import { openJournal } from "../support/journal.ts";
import { runLibraryProducer } from "./library-producers.ts";
import { randomFrom } from "./plan.ts";
import type { ProducerTools } from "./producer.ts";
import { runShuffledProducer, runSqlProducer } from "./sql-producers.ts";

const [, , folder = "", seed = "", leaseMs = "", perMinute = "", ...members] = process.argv;

process.on("uncaughtException", (error: unknown, origin) => {
  if (isDriverFault(error)) {
    console.log("driver fault");
    return;
  }
  console.error(origin, error);
  process.exit(1);
});

let isOver = false;
process.once("SIGTERM", () => {
  isOver = true;
});

async function run(text: string, index: number): Promise<void> {
  const [name = "", way = "", ...rest] = text.split("=");
  const tools: ProducerTools = {
    name,
    url: rest.join("="),
    random: randomFrom(Number(seed) + index),
    leaseMs: Number(leaseMs),
    journal: openJournal(`${folder}/told-${name}.jsonl`),
    isOver: () => isOver,
  };
  if (way === "sql") return runSqlProducer(tools);
  if (way === "shuffled") return runShuffledProducer(tools, Number(perMinute));
  return runLibraryProducer(way, tools);
}

console.log("ready");
await Promise.all(members.map(run));
process.exit(0);

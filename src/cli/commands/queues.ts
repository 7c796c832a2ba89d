import {
  pauseQueue,
  type QueueStats,
  queueStats,
  resumeQueue,
} from "../../db/operator-functions.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import type { Style } from "../output/style.ts";
import { type Column, table } from "../output/table.ts";
import { count, duration } from "../output/words.ts";

/** Shows every queue and how full it is. */
export async function listQueues(context: CliContext): CommandResult {
  const { sql } = await openDatabase(context);
  const queues = await queueStats(sql);
  if (context.isJson) return void context.terminal.json({ queues });

  const { terminal } = context;
  if (queues.length === 0)
    return void terminal.say("There is no queue yet: the first job makes one.");
  const { style, width } = terminal;
  terminal.lines(table(columns(style), queues, { style, width, indent: "" }));
  return undefined;
}

function columns(style: Style): Column<QueueStats>[] {
  const amount = (title: string, read: (queue: QueueStats) => number): Column<QueueStats> => ({
    title,
    align: "right",
    cell: (queue) => (read(queue) === 0 ? style("faint", "·") : count(read(queue))),
  });
  return [
    { title: "queue", isFlexible: true, cell: ({ queue }) => queue },
    {
      title: "state",
      isOptional: true,
      cell: (queue) => (queue.is_paused ? style("notice", "paused") : ""),
    },
    amount("pending", (queue) => queue.pending),
    amount("scheduled", (queue) => queue.scheduled),
    amount("blocked", (queue) => queue.blocked),
    amount("processing", (queue) => queue.processing),
    amount("dead letters", (queue) => queue.dead_letters),
    {
      title: "oldest waits",
      align: "right",
      isOptional: true,
      cell: ({ oldest_pending_seconds: oldest }) =>
        oldest === null ? "" : duration(oldest * 1_000),
    },
  ];
}

/** Pauses or resumes a queue. Throws UnknownQueueError. */
export async function setPaused(
  context: CliContext,
  queue: string,
  { isPaused, reason }: { isPaused: boolean; reason?: string | undefined },
): CommandResult {
  const { sql } = await openDatabase(context);
  const changed = isPaused ? await pauseQueue(sql, queue, reason) : await resumeQueue(sql, queue);
  if (context.isJson) {
    return void context.terminal.json({ queue, is_paused: isPaused, changed });
  }
  const { terminal } = context;
  const state = isPaused ? "paused" : "running";
  terminal.line(
    changed
      ? `${terminal.style("good", "✓")} Queue ${queue} is ${state}${isPaused ? "; jobs that run go on" : " again"}`
      : `Queue ${queue} was ${state} already`,
  );
  return undefined;
}

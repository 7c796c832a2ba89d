import type { Attempt } from "./attempt.ts";
import type { Blocks } from "./blocks.ts";
import type { Lane } from "./lane.ts";
import type { WorkerSettings } from "./options.ts";
import type { Overruns } from "./overruns.ts";

export interface NewsParts {
  readonly settings: WorkerSettings;
  readonly lanes: readonly Lane[];
  readonly running: ReadonlySet<Attempt>;
  readonly blocks: Blocks;
  readonly overruns: Overruns;
}

/** The most queues that are told of. */
const MOST_QUEUES = 100;

/**
 * What a worker tells of itself with each sign of life: its slots, what lies in it and has not begun, and what is wrong in it. The
 * database reads it in `queue_stats`, `explain_job` and `queue_health`.
 */
export function newsOf({ settings, lanes, running, blocks, overruns }: NewsParts): object {
  const fetched = new Map<string, number>();
  for (const lane of lanes) lane.countByQueue(fetched);
  return {
    ...settings.details,
    running: running.size,
    lanes: Object.fromEntries(
      lanes
        .slice(0, MOST_QUEUES)
        .map((lane) => [
          lane.name,
          { slots: lane.concurrency, running: lane.running, fetched: lane.buffered },
        ]),
    ),
    fetched: Object.fromEntries([...fetched].slice(0, MOST_QUEUES)),
    overrun: overruns.describe(),
    blocked: blocks.describe(),
  };
}

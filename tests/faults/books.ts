import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Sighting } from "../support/identity.ts";
import { readJournal } from "../support/journal.ts";
import type { Absence } from "./fleet.ts";
import type { ProducerEntry } from "./producer.ts";

/** What producers and handlers wrote down. */
export interface Books {
  /** Payloads that may be in the queue. */
  readonly tried: ReadonlySet<string>;
  /** Those that must not: their transaction was rolled back. */
  readonly undone: ReadonlySet<string>;
  /** Acknowledged enqueues by their nonce; of one that was made again the newest. */
  readonly told: ReadonlyMap<string, { readonly id: string; readonly at: number }>;
  /** Calls that did not return in time. */
  readonly stuck: readonly string[];
  readonly sightings: readonly Sighting[];
  /** When handlers blocked their process. */
  readonly blocks: readonly Absence[];
}

export function readBooks(folder: string): Books {
  const files = readdirSync(folder);
  const read = <Entry>(prefix: string): Entry[] =>
    files
      .filter((name) => name.startsWith(prefix))
      .flatMap((name) => readJournal<Entry>(join(folder, name)));
  const tried = new Set<string>();
  const undone = new Set<string>();
  const told = new Map<string, { id: string; at: number }>();
  const stuck: string[] = [];
  for (const entry of read<ProducerEntry>("told-")) {
    if ("tried" in entry) for (const nonce of entry.tried) tried.add(nonce);
    if ("undone" in entry) for (const nonce of entry.undone) undone.add(nonce);
    if ("stuck" in entry) stuck.push(entry.stuck);
    if (!("told" in entry)) continue;
    for (const [id, nonce] of entry.told) {
      if ((told.get(nonce)?.at ?? 0) <= entry.at) told.set(nonce, { id, at: entry.at });
    }
  }
  const blocks = files.flatMap((name) => {
    const [, member = "", pid] = /^blocked-(.*)-(\d+)\.jsonl$/.exec(name) ?? [];
    const times =
      pid === undefined ? [] : readJournal<{ from: number; to: number }>(join(folder, name));
    return times.map((time) => ({ member, pid: Number(pid), ...time }));
  });
  return { tried, undone, told, stuck, sightings: read<Sighting>("seen-"), blocks };
}

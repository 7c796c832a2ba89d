import type { TestSql } from "../support/connect.ts";
import { findStrangers, summarise } from "../support/identity-audit.ts";
import type { Books } from "./books.ts";
import { count } from "./count.ts";
import { findWrongEnds, type Past } from "./ends.ts";

/** What became of all jobs. */
export interface Audit {
  readonly acknowledged: number;
  readonly jobs: number;
  readonly statuses: Readonly<Record<string, number>>;
  /** Of calls whose fate their producer never learned. */
  readonly unacknowledgedThere: number;
  readonly rolledBack: number;
  /** Acknowledged by a primary whose standby took over before it had received them. */
  readonly forgottenByFailover: number;
  readonly attemptsBegun: number;
  /** Attempts that ran and left no trace, because the server forgot their claim: by a crash, or because a standby took over. */
  readonly attemptsForgotten: number;
  /** Losses that cost an attempt though no handler began: of workers that died or stood still, and of callers that have nothing but SQL. */
  readonly chargedUnseen: number;
  /** What is wrong; empty when all is well. */
  readonly faults: readonly string[];
}

interface Row {
  readonly id: string;
  readonly nonce: string;
}

export async function audit(sql: TestSql, books: Books, past: Past): Promise<Audit> {
  const { servers } = past;
  const rows = await sql<Row[]>`
    select id::text, payload #>> '{who,nonce}' as nonce from queue.jobs`;
  const there = new Map(rows.map(({ id, nonce }) => [nonce, id]));
  const absent = [...books.told].filter(([nonce]) => !there.has(nonce));
  const isExcused = (at: number): boolean =>
    servers.failovers.some((failover) => at < failover.at && at > failover.knownUntil);
  const lost = absent.filter(([, { at }]) => !isExcused(at));
  const undone = rows.filter(({ nonce }) => books.undone.has(nonce));
  const isKnown = (nonce: string): boolean =>
    books.tried.has(nonce.split("/")[0] ?? "") || nonce.startsWith("last.");
  const strange = rows.filter(({ nonce }) => !isKnown(nonce));

  const told = [...books.told].map(([nonce, { id }]) => ({ nonce, id }));
  // Jobs that were forgotten may have been enqueued again by their keys, and have another id then; a handler may begin the old one
  // from its worker's buffer even after the failover.
  const ids = new Set(there.values());
  const mayBeForgotten = (at: number): boolean =>
    servers.failovers.some(({ knownUntil }) => at > knownUntil);
  const sightings = books.sightings.filter(({ id, at }) => ids.has(id) || !mayBeForgotten(at));
  const strangers = await findStrangers(sql, told, sightings);
  const ends = await findWrongEnds(sql, books, past);
  const statuses = await sql<{ status: string; count: number }[]>`
    select status, count(*)::integer as count from public.job_queue group by status`;

  const name = ([nonce, { id, at }]: (typeof absent)[number]): string => `${nonce} (${id}, ${at})`;
  return {
    acknowledged: books.told.size,
    jobs: rows.length,
    statuses: Object.fromEntries(statuses.map(({ status, count }) => [status, count])),
    unacknowledgedThere: rows.filter(({ nonce }) => !books.told.has(nonce)).length,
    rolledBack: books.undone.size,
    forgottenByFailover: absent.length - lost.length,
    attemptsBegun: books.sightings.length,
    attemptsForgotten: ends.attemptsForgotten,
    chargedUnseen: ends.chargedUnseen,
    faults: [
      ...count(lost, "acknowledged jobs lost", name),
      ...count(undone, "jobs of rolled back transactions there", ({ nonce }) => nonce),
      ...count(strange, "jobs nobody enqueued", ({ id, nonce }) => `${nonce} (${id})`),
      ...summarise(strangers),
      ...ends.faults,
    ],
  };
}

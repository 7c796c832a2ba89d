import type { TestSql } from "./connect.ts";

export interface Maintained {
  readonly rescued: number;
  readonly swept: number;
  readonly promoted: number;
  readonly partitions_made: number;
  readonly workers_pruned: number;
  readonly dead_letters_expired: number;
  readonly failed: readonly {
    readonly part: string;
    readonly code: string;
    readonly message: string;
  }[];
  readonly partitions_dropped: number;
}

/** All maintenance there is, as workers do it: queue.maintain, then partitions are dropped one by one, each by a call of its own. */
export async function maintainAll(sql: TestSql): Promise<Maintained> {
  const [row] = await sql<{ did: Omit<Maintained, "partitions_dropped"> }[]>`
    select queue.maintain() as did`;
  if (!row) throw new Error("queue.maintain() returned nothing");
  let dropped = 0;
  while (await dropOne(sql)) dropped += 1;
  return { ...row.did, partitions_dropped: dropped };
}

/** Whether queue.drop_old_partitions dropped one. */
export async function dropOne(sql: TestSql): Promise<boolean> {
  const [row] = await sql<{ n: number }[]>`select queue.drop_old_partitions() as n`;
  return row?.n === 1;
}

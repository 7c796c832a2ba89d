import { PRIORITIES } from "../core/define-job.ts";
import type { Attempt } from "./attempt.ts";

const RANK: Readonly<Record<string, number>> = Object.fromEntries(
  PRIORITIES.map((name, rank) => [name, rank]),
);
const LEAST = PRIORITIES.length - 1;

/** So many places of jobs that have left are worth copying the rest for. */
const CUT_AT = 64;
/** Stands where a job was, which is not held on to. Nobody reads places before the head. */
const LEFT = undefined as never;

/** Jobs of one priority, in the order they came. */
interface Line {
  jobs: Attempt[];
  head: number;
}

/** Jobs that wait in this process for a slot: the more urgent first, and those of one priority in the order they came. */
export class JobBuffer {
  readonly #lines: readonly Line[] = PRIORITIES.map(() => ({ jobs: [], head: 0 }));
  /** No line before this one holds a job. */
  #first = LEAST;
  #size = 0;
  #chars = 0;

  get size(): number {
    return this.#size;
  }

  /** How long they are together, in characters of JSON, about. */
  get chars(): number {
    return this.#chars;
  }

  /** How urgent the least urgent one is, 0 for the most; -1 of none. */
  get leastRank(): number {
    let rank = this.#size === 0 ? -1 : LEAST;
    while (rank > 0 && isEmpty(this.#line(rank))) rank -= 1;
    return rank;
  }

  push(attempt: Attempt): void {
    const rank = RANK[attempt.row[4]] ?? LEAST;
    this.#line(rank).jobs.push(attempt);
    if (rank < this.#first) this.#first = rank;
    this.#size += 1;
    this.#chars += attempt.chars;
  }

  shift(): Attempt | undefined {
    if (this.#size === 0) return undefined;
    while (isEmpty(this.#line(this.#first))) this.#first += 1;
    const line = this.#line(this.#first);
    const attempt = line.jobs[line.head] as Attempt;
    line.jobs[line.head] = LEFT;
    line.head += 1;
    // In a long backlog it never runs empty, and must not hold on to all that has left it.
    if (isEmpty(line)) reset(line, []);
    else if (line.head >= CUT_AT && line.head * 2 >= line.jobs.length) {
      reset(line, line.jobs.slice(line.head));
    }
    this.#left(attempt);
    return attempt;
  }

  /** Takes further jobs of one type out of it, up to `count`, the more urgent first. */
  shiftSame(type: string, count: number): Attempt[] {
    const taken: Attempt[] = [];
    for (const line of this.#lines) {
      if (taken.length === count) break;
      const kept: Attempt[] = [];
      for (const attempt of line.jobs.slice(line.head)) {
        (taken.length < count && attempt.type === type ? taken : kept).push(attempt);
      }
      reset(line, kept);
    }
    for (const attempt of taken) this.#left(attempt);
    return taken;
  }

  /** Takes out so many of those that would come last. */
  dropLast(count: number): Attempt[] {
    const dropped: Attempt[] = [];
    for (let rank = LEAST; rank >= 0 && dropped.length < count; rank -= 1) {
      const line = this.#line(rank);
      const held = line.jobs.slice(line.head);
      const part = held.splice(Math.max(0, held.length - (count - dropped.length)));
      reset(line, held);
      dropped.push(...part);
    }
    for (const attempt of dropped) this.#left(attempt);
    return dropped;
  }

  /** All of it, in order, without taking it out. */
  *[Symbol.iterator](): Generator<Attempt> {
    for (const { jobs, head } of this.#lines) for (const attempt of jobs.slice(head)) yield attempt;
  }

  #line(rank: number): Line {
    return this.#lines[rank] as Line;
  }

  #left(attempt: Attempt): void {
    this.#size -= 1;
    this.#chars = this.#size === 0 ? 0 : this.#chars - attempt.chars;
  }
}

function isEmpty({ jobs, head }: Line): boolean {
  return head === jobs.length;
}

function reset(line: Line, jobs: Attempt[]): void {
  line.jobs = jobs;
  line.head = 0;
}

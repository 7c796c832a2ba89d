// Which number met which id. Producers and handlers each add up their own; the sums are equal if every handler got the payload of
// the very id that the producer was told for it.

/** Added up over jobs, in any order. */
export interface Pairs {
  readonly jobs: number;
  readonly sum: number;
}

export const NO_PAIRS: Pairs = { jobs: 0, sum: 0 };

export function addPairs(a: Pairs, b: Pairs): Pairs {
  return { jobs: a.jobs + b.jobs, sum: a.sum + b.sum };
}

/** Keeps pairs as they come, which costs a job next to nothing, and adds them up when it is asked. */
export class PairBook {
  readonly #numbers: number[] = [];
  readonly #ids: string[] = [];

  note(n: number, id: string): void {
    this.#numbers.push(n);
    this.#ids.push(id);
  }

  total(): Pairs {
    let sum = 0;
    for (const [at, n] of this.#numbers.entries()) sum += mix(n, Number(this.#ids[at]));
    return { jobs: this.#numbers.length, sum };
  }
}

/** 32 bits that change altogether when one of the two changes: two jobs that swap their payloads change the sum. */
function mix(n: number, id: number): number {
  let mixed = Math.imul(n + 1, 0x9e3779b1) ^ Math.imul(id, 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  mixed = Math.imul(mixed ^ (mixed >>> 12), 0x297a2d39);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/** The most ids that a result names: results are kept with the job. */
const MOST_IDS = 1_000;

/** What was found, as part of a result: how many, and, where nobody stored them, which. */
export class Listed {
  readonly #ids: string[] = [];
  #count = 0;

  add(ids: readonly string[]): void {
    this.#count += ids.length;
    this.#ids.push(...ids.slice(0, MOST_IDS - this.#ids.length));
  }

  get count(): number {
    return this.#count;
  }

  /** `ids` are the first thousand. */
  summary(isStored: boolean): { stored: boolean; ids?: readonly string[] } {
    return isStored ? { stored: true } : { stored: false, ids: this.#ids };
  }
}

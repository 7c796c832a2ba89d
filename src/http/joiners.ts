/** Rings that come while a run is under way: they join it, as long as it looks at the queue once more. */
export class Joiners {
  #isOpen = true;
  #isRung = false;

  /** Somebody rings; false when the run looks no more. */
  join(): boolean {
    if (this.#isOpen) this.#isRung = true;
    return this.#isOpen;
  }

  /** A look begins: it sees whatever was rung for until now. */
  look(): void {
    this.#isRung = false;
  }

  /** Nobody joins from now on; false, and open still, when somebody rang after the last look began. */
  close(): boolean {
    if (!this.#isRung) this.#isOpen = false;
    return !this.#isOpen;
  }

  /** Nobody joins from now on, whoever rang: the run sees to it that somebody comes. */
  shut(): void {
    this.#isOpen = false;
  }
}

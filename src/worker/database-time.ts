/** What the local clock shows at a moment of the database's clock, as far as the answers of the database tell. */
export class DatabaseTime {
  #difference: number | undefined;

  /** A call sent at `sentAt` (local) was answered with the database's time. */
  observe(sentAt: number, databaseNow: number): void {
    this.#difference = sentAt - databaseNow;
  }

  /** The local time of a moment of the database, rather too early than too late; -Infinity while nothing is known. */
  toLocal(databaseMs: number): number {
    return this.#difference === undefined ? -Infinity : databaseMs + this.#difference;
  }
}

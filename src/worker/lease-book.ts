import type { Attempt } from "./attempt.ts";

/** The right to run one claimed batch, until its deadline by the local clock. */
export interface Lease {
  readonly id: string;
  /** Local time after which somebody else may have the jobs. */
  deadline: number;
  readonly attempts: Attempt[];
  /** Local time up to which it was extended: see `LeaseBook.hold`. */
  extendedTo: number;
  /** Attempts whose end the database does not know yet. */
  unsettled: number;
  /** Attempts that completed and wait to be settled together. */
  completed: number;
  /** The database is asked whether it still holds: until it answers, the deadline does not count. */
  isAccepting: boolean;
  /** Given up here: it is not extended any more, and the database does with it what it likes. */
  isLost: boolean;
  /** Whether it may still be settled as one: nothing of it was told apart. */
  isWhole: boolean;
}

/** Older ones have run out long ago. */
const MOST_GONE = 1_000;
/** A call takes about as long. */
const MOMENT_MS = 100;

/** The leases a worker holds. A lease leaves the book when all of its attempts are settled, or when it is lost. */
export class LeaseBook {
  readonly #leases = new Map<string, Lease>();
  /** Leases that left the book although the database may still have them. */
  readonly #gone = new Set<string>();

  get size(): number {
    return this.#leases.size;
  }

  /** Those that are to be kept alive. */
  get ids(): string[] {
    const ids: string[] = [];
    for (const { id, isLost } of this.#leases.values()) if (!isLost) ids.push(id);
    return ids;
  }

  open(id: string, deadline: number): Lease {
    const lease: Lease = {
      id,
      deadline,
      extendedTo: deadline,
      attempts: [],
      unsettled: 0,
      completed: 0,
      isAccepting: false,
      isLost: false,
      isWhole: true,
    };
    this.#leases.set(id, lease);
    return lease;
  }

  /** None of its jobs is ours to run: it is left to run out. */
  drop(lease: Lease): void {
    this.#leases.delete(lease.id);
    this.#remember(lease.id);
  }

  /** All leases that a claim has brought, as far as the database may still have them. */
  get known(): string[] {
    return [...this.#leases.keys(), ...this.#gone];
  }

  knows(id: string): boolean {
    return this.#leases.has(id) || this.#gone.has(id);
  }

  #remember(id: string): void {
    this.#gone.add(id);
    if (this.#gone.size <= MOST_GONE) return;
    for (const oldest of this.#gone) {
      this.#gone.delete(oldest);
      return;
    }
  }

  /** The local time at which the first of the leases ends; Infinity without any. */
  get firstDeadline(): number {
    let first = Infinity;
    for (const { deadline, isLost } of this.#leases.values()) {
      if (!isLost) first = Math.min(first, deadline);
    }
    return first;
  }

  find(leaseId: string, jobId: string): Attempt | undefined {
    return this.#leases.get(leaseId)?.attempts.find((attempt) => attempt.id === jobId);
  }

  /** The database knows how this attempt ended, or will never learn it from us. */
  close(attempt: Attempt): void {
    if (attempt.isClosed) return;
    attempt.isClosed = true;
    attempt.lease.isWhole = false;
    attempt.lease.unsettled -= 1;
    if (attempt.lease.unsettled > 0) return;
    this.#leases.delete(attempt.lease.id);
    // Its handlers have begun: so it is the rescuer's, which charges what it has to.
    if (attempt.lease.isLost) this.#remember(attempt.lease.id);
  }

  extend(ids: readonly string[], deadline: number): void {
    for (const id of ids) {
      const lease = this.#leases.get(id);
      if (!lease) continue;
      lease.deadline = Math.max(lease.deadline, deadline);
      lease.extendedTo = lease.deadline;
    }
  }

  /**
   * Somebody else holds these leases locked, so they could not be extended. Nobody can take their jobs before they are free again: they
   * hold until the next look, but not for ever. `mostMs`: by how much they may outlive what they were extended to.
   */
  hold(ids: readonly string[], until: number, mostMs: number): void {
    for (const id of ids) {
      const lease = this.#leases.get(id);
      if (!lease) continue;
      lease.deadline = Math.max(lease.deadline, Math.min(until, lease.extendedTo + mostMs));
    }
  }

  /** Those of the leases asked about that did not turn out to be alive. */
  missing(asked: readonly string[], alive: readonly string[]): Lease[] {
    const living = new Set(alive);
    return asked
      .filter((id) => !living.has(id))
      .map((id) => this.#leases.get(id))
      .filter((lease) => lease !== undefined);
  }

  /**
   * Whether a lease ends now or in a moment. Then this worker asks for nothing that looks for leases that ran out: it could take away its
   * own before they are extended.
   */
  isLate(now: number): boolean {
    for (const { deadline, isAccepting, isLost } of this.#leases.values()) {
      if (deadline <= now + MOMENT_MS && !isAccepting && !isLost) return true;
    }
    return false;
  }

  /** The same, where a lease that somebody else holds locked counts as not extended: it may be free in a moment. */
  isOverdue(now: number): boolean {
    for (const { extendedTo, isAccepting, isLost } of this.#leases.values()) {
      if (extendedTo <= now + MOMENT_MS && !isAccepting && !isLost) return true;
    }
    return false;
  }

  expired(now: number): Lease[] {
    return [...this.#leases.values()].filter(
      (lease) => lease.deadline <= now && !lease.isAccepting && !lease.isLost,
    );
  }
}

import { deadline, raceSignal } from "../core/signals.ts";
import { callJson } from "./call.ts";
import type { OneConnection, Session, Watch, Watched } from "./one-connection.ts";

type Asker = Pick<OneConnection, "run" | "isLost" | "end">;

/** An answer that takes longer than this is asked after, and so often. */
export const LOOK_MS = 2_500;
/** So many looks in a row must find that the server does not work for us. */
const LOOKS = 2;
/** How long a look may take. */
const ASK_MS = 5_000;
/** Sessions to be ended are remembered while the database is away, so many and for so many looks. */
const MOST_GRAVES = 100;
const MOST_TRIES = 20;

/**
 * Tells a statement that takes long from a connection on which nothing arrives any more, as after a firewall forgot it: asks the server,
 * on another connection, what it does. What it does not work on although we wait for it is lost, and the connection is ended. So is, on
 * the server, the session of a connection that we gave up: it may hold locks, and would notice only after hours.
 */
export class SilenceWatch implements Watch {
  readonly #open: (signal: AbortSignal) => Promise<Asker>;
  readonly #lookMs: number;
  readonly #watched = new Set<Watched>();
  readonly #strikes = new WeakMap<Watched, number>();
  readonly #graves = new Map<Session, number>();
  #asker: Asker | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isLooking = false;
  readonly #over = new AbortController();

  /** `open` makes a connection beyond those of any pool. */
  constructor(open: (signal: AbortSignal) => Promise<Asker>, lookMs: number = LOOK_MS) {
    this.#open = open;
    this.#lookMs = lookMs;
  }

  add(connection: Watched): void {
    if (connection.session === undefined) return;
    this.#watched.add(connection);
    if (this.#timer === undefined) this.#arm(this.#lookMs);
  }

  remove(connection: Watched): void {
    this.#watched.delete(connection);
  }

  /** Ends on the server what we have given up here. */
  bury({ session }: Watched): void {
    if (session === undefined || this.#over.signal.aborted || this.#graves.size >= MOST_GRAVES)
      return;
    this.#graves.set(session, 0);
    this.#arm(0);
  }

  close(): void {
    this.#over.abort();
    clearTimeout(this.#timer);
    this.#watched.clear();
    this.#graves.clear();
    this.#leave();
  }

  #arm(ms: number): void {
    if (this.#over.signal.aborted || this.#isLooking) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), ms);
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    this.#timer = undefined;
    const suspects = [...this.#watched].filter(({ silentMs }) => silentMs >= this.#lookMs);
    if (suspects.length > 0 || this.#graves.size > 0) {
      this.#isLooking = true;
      await this.#ask(suspects).catch(() => this.#leave());
      this.#isLooking = false;
    }
    // While others are watched it may be needed again soon; the next look tells.
    const isNeeded = suspects.length > 0 && this.#watched.size > 0;
    if (!isNeeded && this.#graves.size === 0) this.#leave();
    const isNew = [...this.#graves.values()].includes(0);
    if (isNew || this.#watched.size > 0 || this.#graves.size > 0) {
      this.#arm(isNew ? 0 : this.#lookMs);
    }
  }

  async #ask(suspects: readonly Watched[]): Promise<void> {
    const graves = [...this.#graves.keys()];
    for (const session of graves) {
      const tries = (this.#graves.get(session) ?? 0) + 1;
      if (tries > MOST_TRIES) this.#graves.delete(session);
      else this.#graves.set(session, tries);
    }
    const patience = deadline(ASK_MS, () => new Error("no answer"), this.#over.signal);
    try {
      const asker = await this.#connected(patience.signal);
      if (graves.length > 0) {
        await this.#call(asker, TERMINATE, pidsAndTimes(graves), patience.signal);
        for (const session of graves) this.#graves.delete(session);
      }
      if (suspects.length === 0) return;
      const sessions = suspects.flatMap(({ session }) => session ?? []);
      const waits = suspects.map(({ silentMs }) => silentMs);
      const busy = await this.#call(asker, WHO_WORKS, pidsAndTimes(sessions), patience.signal);
      const working = new Set((busy as readonly string[]).map(String));
      for (const [index, connection] of suspects.entries()) {
        this.#judge(connection, working.has(connection.session?.pid ?? ""), waits[index] ?? 0);
      }
    } finally {
      patience.release();
    }
  }

  #judge(connection: Watched, isWorking: boolean, waitedMs: number): void {
    // Something has come meanwhile, or something else is awaited.
    const isSame = this.#watched.has(connection) && connection.silentMs >= waitedMs;
    const strikes = isSame && !isWorking ? (this.#strikes.get(connection) ?? 0) + 1 : 0;
    this.#strikes.set(connection, strikes);
    if (strikes < LOOKS) return;
    this.remove(connection);
    connection.end();
    if (connection.session) this.#graves.set(connection.session, 0);
  }

  async #connected(signal: AbortSignal): Promise<Asker> {
    if (this.#asker && !this.#asker.isLost) return this.#asker;
    const asker = await this.#open(signal);
    if (this.#over.signal.aborted) asker.end();
    this.#asker = asker;
    return asker;
  }

  async #call(asker: Asker, text: string, params: string[], signal: AbortSignal): Promise<unknown> {
    const run = (): Promise<readonly Readonly<Record<string, unknown>>[]> =>
      asker.run(text, params, false);
    return raceSignal(callJson({ query: run }, text, params), signal);
  }

  #leave(): void {
    this.#asker?.end();
    this.#asker = undefined;
  }
}

/** Of the sessions, those that still are and that work on something; one that waits for its client does not. */
const WHO_WORKS = `
  select coalesce(json_agg(process.pid), '[]')::text
    from unnest($1::text::integer[], $2::text::text[], $3::text::text[]) as session (pid, since, xact)
    join pg_catalog.pg_stat_activity as process
      on process.pid = session.pid and extract(epoch from process.backend_start)::text = session.since
      and (session.xact is null or extract(epoch from process.xact_start)::text = session.xact)
   where process.state in ('active', 'fastpath function call')
     and process.wait_event_type is distinct from 'Client'`;

const TERMINATE = `
  select count(pg_catalog.pg_terminate_backend(process.pid))::text
    from unnest($1::text::integer[], $2::text::text[], $3::text::text[]) as session (pid, since, xact)
    join pg_catalog.pg_stat_activity as process
      on process.pid = session.pid and extract(epoch from process.backend_start)::text = session.since
      and (session.xact is null or extract(epoch from process.xact_start)::text = session.xact)`;

function pidsAndTimes(sessions: readonly Session[]): string[] {
  return [
    `{${sessions.map(({ pid }) => pid).join(",")}}`,
    `{${sessions.map(({ since }) => since).join(",")}}`,
    `{${sessions.map(({ xact }) => xact ?? "null").join(",")}}`,
  ];
}

import { DatabaseUnreachableError } from "../core/database-errors.ts";
import type { Pooled } from "./connection-pool.ts";
import { type OneConnection, ReplicationWarning, type Session } from "./one-connection.ts";
import type { SqlParam, SqlRow } from "./sql.ts";
import { isConnectionGone, translateError } from "./sqlstate.ts";

/** The part of node-postgres that is used here; its pools and clients both have it. */
export interface PgQueryable {
  query(config: {
    text: string;
    values?: unknown[];
    name?: string;
  }): Promise<PgAnswer | PgAnswer[]>;
}

export interface PgAnswer {
  readonly rows?: SqlRow[];
}

export interface PgClient extends PgQueryable {
  on(
    event: "notification",
    listener: (message: { channel: string; payload?: string | undefined }) => void,
  ): unknown;
  on(event: "error" | "end", listener: (error?: Error) => void): unknown;
  on(event: "notice", listener: (notice: object) => void): unknown;
  removeListener(event: string, listener: () => void): unknown;
  readonly connection?: { readonly stream?: object };
}

/** What we know of a client for as long as it lives. */
class Memory {
  readonly warning = new ReplicationWarning();
  lastAnswerAt: number = performance.now();
}

/** By what a client is the same, also as a transaction hands it out. */
const memories = new WeakMap<object, Memory>();

function memoryOf(client: PgClient): Memory {
  const key = client.connection ?? client;
  const known = memories.get(key);
  if (known) return known;
  const memory = new Memory();
  client.on("notice", (notice) => memory.warning.hear(notice));
  memories.set(key, memory);
  return memory;
}

/** A client of node-postgres, for as long as it is ours. */
export class PgConnection implements OneConnection, Pooled {
  readonly client: PgClient;
  readonly host: string;
  readonly agesAt: number = Infinity;
  idleSince = 0;
  /** Set by whoever asks for it. */
  session: Session | undefined;
  readonly #leave: (isBroken: boolean) => void;
  readonly #memory: Memory;
  readonly #onLoss = new Set<(error: unknown) => void>();
  #isLost = false;
  #isLeft = false;
  #pending = 0;
  #seenBytes = -1;
  #seenAt = 0;
  readonly #onError = (): void => this.#lose(new DatabaseUnreachableError(this.host, BROKE));

  /** `leave` gives the client back, or ends it when it is broken. */
  constructor(client: PgClient, host: string, leave: (isBroken: boolean) => void) {
    this.client = client;
    this.host = host;
    this.#leave = leave;
    this.#memory = memoryOf(client);
    // While it is ours the pool does not listen, and an 'error' event that nobody hears ends the process.
    client.on("error", this.#onError);
    client.on("end", this.#onError);
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  /** Calls back when the connection is lost; the answer takes that back. */
  onLoss(callback: (error: unknown) => void): () => void {
    this.#onLoss.add(callback);
    return () => this.#onLoss.delete(callback);
  }

  /** Whether nothing was heard of it since that moment of the local clock. */
  isOlderThan(at: number): boolean {
    return this.#memory.lastAnswerAt < at;
  }

  /** By the bytes that came: what was asked through the driver itself counts as well. */
  get silentMs(): number {
    const now = performance.now();
    const bytes = bytesReadBy(this.client.connection?.stream);
    const isBusy = this.#pending > 0 || isWorking(this.client);
    if (!isBusy || bytes !== this.#seenBytes) {
      this.#seenBytes = bytes;
      this.#seenAt = now;
    }
    return now - this.#seenAt;
  }

  async run(
    text: string,
    params: readonly SqlParam[] = [],
    prepare = false,
  ): Promise<readonly SqlRow[]> {
    this.#memory.warning.take();
    this.#pending += 1;
    try {
      const answer = await this.client.query({
        text,
        // Without a values array the simple protocol is used, which allows several statements.
        ...(params.length > 0 && { values: [...params] }),
        ...(prepare && { name: nameOf(text) }),
      });
      this.#memory.lastAnswerAt = performance.now();
      // Of several statements the last one tells.
      const last = Array.isArray(answer) ? answer.at(-1) : answer;
      return last?.rows ?? [];
    } catch (error) {
      const translated = describe(error, this.host);
      if (isConnectionGone(error) || translated instanceof DatabaseUnreachableError) {
        this.#lose(translated);
      } else this.#memory.lastAnswerAt = performance.now();
      throw translated;
    } finally {
      this.#pending -= 1;
    }
  }

  takeWarning(): boolean {
    return this.#memory.warning.take();
  }

  end(
    error: unknown = new DatabaseUnreachableError(this.host, "the connection was given up"),
  ): void {
    this.#lose(error);
    this.#go(true);
  }

  /** Gives it back to where it came from. */
  release(): void {
    this.#go(this.#isLost);
  }

  #lose(error: unknown): void {
    if (this.#isLost || this.#isLeft) return;
    this.#isLost = true;
    for (const callback of this.#onLoss) callback(error);
  }

  #go(isBroken: boolean): void {
    if (this.#isLeft) return;
    this.#isLeft = true;
    this.client.removeListener("end", this.#onError);
    if (!isBroken) this.client.removeListener("error", this.#onError);
    this.#leave(isBroken);
  }
}

const BROKE = "the connection broke";

function bytesReadBy(stream: object = {}): number {
  return "bytesRead" in stream && typeof stream.bytesRead === "number" ? stream.bytesRead : 0;
}

/** node-postgres tells so itself. */
function isWorking(client: PgClient): boolean {
  return "readyForQuery" in client && client.readyForQuery === false;
}

/** Here an error without SQLSTATE is about the connection: node-postgres gives those no code. */
export function describe(error: unknown, host: string): unknown {
  const translated = translateError(error, host);
  if (translated !== error || !(error instanceof Error) || error instanceof TypeError) {
    return translated;
  }
  return new DatabaseUnreachableError(host, error.message, { cause: error });
}

/** node-postgres prepares a statement when it has a name; the same text must always have the same one. */
function nameOf(text: string): string {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    a = Math.imul(a ^ unit, 2654435761);
    b = Math.imul(b ^ unit, 1597334677);
  }
  return `millrace_${(a >>> 0).toString(16)}${(b >>> 0).toString(16)}`;
}

import type postgres from "postgres";
import { DatabaseUnreachableError } from "../core/database-errors.ts";
import { Limiter } from "../core/limiter.ts";
import type { PostgresJsClient } from "./postgres-js-handle.ts";
import { beginTransaction, type Loss } from "./postgres-js-transaction.ts";
import type { SqlTransaction } from "./sql.ts";

/** A client with one connection, of which we are told at once when it closes. */
interface Entry extends Loss {
  readonly client: postgres.Sql;
}

/**
 * Transactions on clients of their own: so they can't keep other statements waiting, however long they take, and a closed
 * connection is known before anything more is sent on it.
 */
export class TransactionClients {
  readonly #limiter: Limiter;
  readonly #host: string;
  readonly #open: (onClose: () => void) => postgres.Sql;
  readonly #idle: Entry[] = [];
  readonly #busy = new Set<Entry>();

  constructor(limit: number, host: string, open: (onClose: () => void) => postgres.Sql) {
    this.#limiter = new Limiter(limit);
    this.#host = host;
    this.#open = open;
  }

  run<T>(work: (tx: SqlTransaction) => Promise<T>): Promise<T> {
    return this.#limiter.run(async () => {
      const entry = this.#idle.pop() ?? this.#make();
      this.#busy.add(entry);
      try {
        const client = entry.client as unknown as PostgresJsClient;
        return await beginTransaction(client, this.#host, entry, work);
      } catch (error) {
        if (error instanceof DatabaseUnreachableError) entry.isLost = true;
        throw error;
      } finally {
        this.#busy.delete(entry);
        if (entry.isLost) void entry.client.end({ timeout: 0 }).catch(() => undefined);
        else this.#idle.push(entry);
      }
    });
  }

  async close(): Promise<void> {
    const entries = [...this.#idle.splice(0), ...this.#busy];
    await Promise.all(entries.map((entry) => entry.client.end({ timeout: 0 })));
  }

  #make(): Entry {
    const entry: Entry = {
      isLost: false,
      mayGiveUp: true,
      client: this.#open(() => {
        entry.isLost = true;
      }),
    };
    return entry;
  }
}

import { DatabaseUnreachableError } from "../core/database-errors.ts";
import {
  type PostgresJsClient,
  type PostgresJsHandle,
  runStatement,
} from "./postgres-js-statement.ts";
import type { SqlTransaction } from "./sql.ts";
import { isConnectionGone, translateError } from "./sqlstate.ts";

/** Whether the connection under a transaction is gone. */
export interface Loss {
  isLost: boolean;
  /** The client serves this transaction alone: nothing but its connection can keep it from beginning. */
  readonly mayGiveUp?: boolean;
}

/** After its connection was seen to be gone, `begin` has this long to notice. */
const NOTICE_MS = 5_000;
/** On a client of its own a transaction begins within the time it takes to connect. */
const BEGIN_MS = 15_000;

/**
 * Runs `work` in a transaction of postgres.js.
 *
 * When the connection breaks, postgres.js rejects `begin`. But whatever is sent on that transaction from then on, its own
 * rollback included, either ends the process with an error that nobody can catch, or runs outside of any transaction on a connection made
 * anew. So once the connection is lost nothing is sent any more, and the function given to `begin` does not settle.
 */
export function beginTransaction<T>(
  client: PostgresJsClient,
  host: string,
  loss: Loss,
  work: (tx: SqlTransaction) => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    // What is asked of a connection while it breaks is never answered.
    const giveUp = (): void =>
      onLost(new DatabaseUnreachableError(host, "no transaction was begun"));
    const begins = loss.mayGiveUp ? setTimeout(giveUp, BEGIN_MS) : undefined;
    const onLost = (error: unknown): void => {
      loss.isLost = true;
      timer ??= setTimeout(() => reject(translateError(error, host)), NOTICE_MS);
    };
    const isDead = (): boolean => isOver || loss.isLost;
    const begun = client.begin((raw) => {
      // BEGIN was answered, so what closed until now was an older connection.
      loss.isLost = false;
      clearTimeout(begins);
      const tx = guard(raw, host, isDead, onLost);
      return new Promise<T>((fulfil, refuse) => {
        const unlessLost = (settle: () => void): void => {
          if (loss.isLost) onLost(new DatabaseUnreachableError(host, "the connection broke"));
          else if (!isOver) settle();
        };
        work(tx).then(
          (value) => unlessLost(() => fulfil(value)),
          (error: unknown) => unlessLost(() => refuse(error)),
        );
      });
    });
    const end = (): void => {
      isOver = true;
      clearTimeout(begins);
      clearTimeout(timer);
    };
    begun.then(
      (value) => {
        end();
        resolve(value);
      },
      (error: unknown) => {
        end();
        reject(translateError(error, host));
      },
    );
  });
}

function guard(
  raw: PostgresJsHandle,
  host: string,
  isDead: () => boolean,
  onLost: (error: unknown) => void,
): SqlTransaction {
  const refuseWhenDead = (): void => {
    if (!isDead()) return;
    throw new DatabaseUnreachableError(host, "this transaction is over, or its connection broke");
  };
  return {
    async query(text, params, options) {
      refuseWhenDead();
      try {
        return await runStatement(raw, text, params, options);
      } catch (error) {
        if (isConnectionGone(error)) onLost(error);
        throw translateError(error, host);
      }
    },
    driver: new Proxy(raw, {
      apply(target, self, args) {
        refuseWhenDead();
        return Reflect.apply(target as never, self, args);
      },
      get(target, key) {
        const value: unknown = Reflect.get(target, key);
        if (typeof value === "function") refuseWhenDead();
        return value;
      },
    }),
  };
}

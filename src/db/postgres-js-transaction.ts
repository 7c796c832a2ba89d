import { DatabaseTimeoutError, DatabaseUnreachableError } from "../core/database-errors.ts";
import { turn } from "../core/turn.ts";
import {
  type PostgresJsClient,
  type PostgresJsHandle,
  runStatement,
} from "./postgres-js-statement.ts";
import type { SqlTransaction, TransactionOptions } from "./sql.ts";
import { isConnectionGone, translateError } from "./sqlstate.ts";

/** A connection of our own that serves this transaction alone. */
export interface OwnConnection {
  /** Calls back when the connection is lost; the answer takes that back. */
  onLoss(callback: (error: unknown) => void): () => void;
  /** Ends it at once. */
  end(error: unknown): void;
}

/** After its connection was seen to be gone, `begin` of a client that is not ours has this long to notice. */
const NOTICE_MS = 5_000;
/** How long BEGIN and COMMIT may take on a connection of our own. */
const STEP_MS = 15_000;

type Phase = "beginning" | "open" | "committing" | "over";

/**
 * Runs `work` in a transaction of postgres.js.
 *
 * Whatever is sent on a transaction whose connection is lost, the driver's own rollback included, either ends the process with an error
 * that nobody can catch, or runs outside of any transaction on a connection made anew. So once the connection is lost nothing is sent any
 * more, and the function given to `begin` does not settle.
 */
export function beginTransaction<T>(
  client: PostgresJsClient,
  host: string,
  work: (tx: SqlTransaction) => Promise<T>,
  { signal, own }: TransactionOptions & { own?: OwnConnection } = {},
): Promise<T> {
  if (signal?.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    let phase: Phase = "beginning";
    let isLost = false;
    /** `work` has ended: what it still sends would be done outside of the transaction. */
    let isDone = false;
    let step: ReturnType<typeof setTimeout> | undefined;
    let notice: ReturnType<typeof setTimeout> | undefined;
    let giveUp: (error: unknown) => void = () => undefined;
    const finish = (settle: () => void): void => {
      phase = "over";
      clearTimeout(step);
      clearTimeout(notice);
      forget?.();
      signal?.removeEventListener("abort", onAbort);
      settle();
    };
    const fail = (error: unknown): void => {
      if (phase === "over") return;
      const translated = translateError(error, host);
      const isUnknown = phase === "committing" && translated instanceof DatabaseUnreachableError;
      finish(() => reject(isUnknown ? unknownCommit(translated) : translated));
    };
    const onLost = (error: unknown): void => {
      isLost = true;
      if (own) {
        fail(error);
        own.end(error);
      } else notice ??= setTimeout(() => fail(error), NOTICE_MS);
    };
    /** A connection of our own is ended now. Another's gets its rollback, behind what is under way there. */
    const onGivenUp = (reason: unknown): void => {
      if (own) isLost = true;
      else giveUp(reason);
      fail(reason);
      own?.end(reason);
    };
    const onAbort = (): void => onGivenUp(signal?.reason);
    const within = (ms: number, error: () => unknown): void => {
      clearTimeout(step);
      if (own) step = setTimeout(() => onLost(error()), ms);
    };
    const forget = own?.onLoss(onLost);
    if (phase !== "beginning") return;
    signal?.addEventListener("abort", onAbort, { once: true });
    within(STEP_MS, () => new DatabaseUnreachableError(host, "no transaction was begun"));
    const begun = client.begin((raw) => {
      clearTimeout(step);
      if (phase !== "over") phase = "open";
      const isDead = (): boolean => phase === "over" || isLost || isDone;
      return new Promise<T>((fulfil, refuse) => {
        giveUp = refuse;
        if (phase === "over" && !isLost) return refuse(signal?.reason);
        const unlessLost = (settle: () => void): void => {
          if (isLost) onLost(new DatabaseUnreachableError(host, "the connection broke"));
          else if (phase !== "over") settle();
        };
        work(guard(raw, host, { isDead, onLost, onGivenUp })).then(
          (value) => {
            isDone = true;
            unlessLost(() => {
              phase = "committing";
              within(STEP_MS, () => new DatabaseTimeoutError(STEP_MS));
              fulfil(value);
            });
          },
          // A turn later, because the loss of a client's connection is told to its statements first, and then to us.
          (error: unknown) => {
            isDone = true;
            void turn().then(() =>
              unlessLost(() => {
                // The rollback may go to a connection that is silent.
                within(STEP_MS, () => error);
                refuse(error);
              }),
            );
          },
        );
      });
    });
    begun.then(
      (value) => {
        if (phase !== "over") finish(() => resolve(value));
      },
      (error: unknown) => fail(error),
    );
  });
}

function unknownCommit(cause: unknown): DatabaseTimeoutError {
  return new DatabaseTimeoutError(null, "The connection broke during COMMIT", { cause });
}

interface Watcher {
  readonly isDead: () => boolean;
  /** The connection is lost. */
  readonly onLost: (error: unknown) => void;
  /** A statement of the transaction is not waited for any more, so nothing after it can be sent. */
  readonly onGivenUp: (reason: unknown) => void;
}

function guard(
  raw: PostgresJsHandle,
  host: string,
  { isDead, onLost, onGivenUp }: Watcher,
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
        if (options?.signal?.aborted && error === options.signal.reason) onGivenUp(error);
        else if (isConnectionGone(error)) onLost(error);
        throw translateError(error, host);
      }
    },
    driver: guardDriver(raw, refuseWhenDead, isDead),
  };
}

/** The driver's own handle, of which nothing is sent any more once the transaction is over. */
function guardDriver(
  raw: PostgresJsHandle,
  refuseWhenDead: () => void,
  isDead: () => boolean,
): PostgresJsHandle {
  return new Proxy(raw, {
    apply(target, self, args) {
      refuseWhenDead();
      return Reflect.apply(target as never, self, args);
    },
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (typeof value !== "function") return value;
      refuseWhenDead();
      // A savepoint rolls back to itself when its function rejects: on a connection that is lost it must not.
      return key === "savepoint"
        ? guardSavepoint(value as Savepoint, refuseWhenDead, isDead)
        : value;
    },
  });
}

type SavepointWork = (inner: PostgresJsHandle) => unknown;
type Savepoint = (...args: readonly unknown[]) => Promise<unknown>;

function guardSavepoint(
  savepoint: Savepoint,
  refuseWhenDead: () => void,
  isDead: () => boolean,
): Savepoint {
  return (...args) =>
    new Promise((resolve, reject) => {
      const guarded = args.map((arg) =>
        typeof arg !== "function"
          ? arg
          : (inner: PostgresJsHandle) =>
              new Promise((fulfil, refuse) => {
                const settle = (finish: () => void, orElse: () => void): Promise<void> =>
                  turn().then(() => (isDead() ? orElse() : finish()));
                const work = arg as SavepointWork;
                new Promise((begin) =>
                  begin(work(guardDriver(inner, refuseWhenDead, isDead))),
                ).then(
                  (value) =>
                    settle(
                      () => fulfil(value),
                      () => resolve(value),
                    ),
                  (error: unknown) =>
                    settle(
                      () => refuse(error),
                      () => reject(error),
                    ),
                );
              }),
      );
      savepoint(...guarded).then(resolve, reject);
    });
}

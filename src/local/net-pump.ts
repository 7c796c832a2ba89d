import { deadline, pause } from "../core/signals.ts";
import {
  forgetNetResponses,
  localPlatform,
  NET_CHANNEL,
  type NetRequest,
  type NetResponse,
  recordNetResponse,
  takeNetRequests,
} from "../db/local-platform.ts";
import type { Sql } from "../db/sql.ts";
import { LocalPlatformError } from "./errors.ts";

export interface NetPumpOptions {
  readonly sql: Sql;
  /** Ends it: requests that are under way are given up, and recorded as that. */
  readonly signal: AbortSignal;
  /** The most requests under way. @default 50 */
  readonly concurrency?: number;
  /** How often it looks where no notification arrives. @default 500 */
  readonly pollMs?: number;
  /** Told when the database could not be asked; the pump goes on. */
  readonly onError?: (error: unknown) => void;
}

/** A pump that sends. */
export interface NetPump {
  /** Settles when the signal has aborted and nothing is under way. Never rejects. */
  readonly ended: Promise<void>;
}

const FORGET_EVERY_MS = 60_000;
/** After the database could not be asked. */
const PAUSE_MS = 1_000;
/** The most of an answer that is kept; the doorbell's are short. */
const MOST_CONTENT = 1_000_000;

/**
 * Sends what `net.http_post` left in a database that has our stand-in of pg_net: soon after commit, each once, whatever comes of it. Rejects
 * with NET_NOT_OURS where the stand-in is not, so that requests of a real pg_net are never sent twice.
 */
export async function startNetPump(options: NetPumpOptions): Promise<NetPump> {
  const { net } = await localPlatform(options.sql);
  if (net !== "stand-in") {
    throw new LocalPlatformError(
      "NET_NOT_OURS",
      net === "real"
        ? "This database has the real pg_net, which sends its requests itself"
        : "This database has no stand-in of pg_net whose requests could be sent",
      "Install it with installLocalPlatform(), into a local database only",
    );
  }
  return { ended: pump(options) };
}

async function pump(options: NetPumpOptions): Promise<void> {
  const { sql, signal, concurrency = 50, pollMs = 500, onError } = options;
  const underWay = new Set<Promise<void>>();
  const bell = new Bell();
  const listening = listen(sql, bell, signal);
  let forgotAt = Number.NEGATIVE_INFINITY;
  while (!signal.aborted) {
    bell.reset();
    try {
      if (performance.now() - forgotAt > FORGET_EVERY_MS) {
        await forgetNetResponses(sql);
        forgotAt = performance.now();
      }
      const requests = await takeNetRequests(sql, concurrency - underWay.size);
      for (const request of requests) {
        const sending = send(request, options).finally(() => {
          underWay.delete(sending);
          bell.ring();
        });
        underWay.add(sending);
      }
      const isFull = underWay.size >= concurrency;
      if (requests.length === 0 || isFull) await bell.wait(isFull ? undefined : pollMs, signal);
    } catch (error) {
      if (signal.aborted) break;
      onError?.(error);
      await pause(PAUSE_MS, signal);
    }
  }
  await Promise.all(underWay);
  await listening;
}

/** Where notifications don't arrive it polls. */
async function listen(sql: Sql, bell: Bell, signal: AbortSignal): Promise<void> {
  const ring = (): void => bell.ring();
  try {
    const listening = await sql.listen?.([NET_CHANNEL], ring, { signal, onListening: ring });
    await listening?.ended;
  } catch {
    return;
  }
}

async function send(request: NetRequest, { sql, signal, onError }: NetPumpOptions): Promise<void> {
  const response = await fetchResponse(request, signal);
  await recordNetResponse(sql, request.id, response).catch((error: unknown) => onError?.(error));
}

async function fetchResponse(
  { method, url, headers, body, timeoutMs }: NetRequest,
  signal: AbortSignal,
): Promise<NetResponse> {
  const timeout = new Error(`Timeout of ${timeoutMs} ms reached`);
  const patience = deadline(timeoutMs, () => timeout, signal);
  try {
    const answer = await fetch(url, {
      method,
      headers,
      body: method === "POST" ? body : null,
      signal: patience.signal,
    });
    return {
      status: answer.status,
      headers: Object.fromEntries(answer.headers),
      content: (await answer.text()).slice(0, MOST_CONTENT),
    };
  } catch (error) {
    const reason = signal.aborted
      ? "given up: the program that sends requests ended"
      : words(error);
    return { error: reason, timedOut: error === timeout };
  } finally {
    patience.release();
  }
}

/** `fetch failed` says nothing; its cause does. */
function words(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  const code = "code" in cause ? String(cause.code) : "";
  return `${error.message}: ${cause.message || code}`;
}

/** Remembers that it was rung until somebody waits. */
class Bell {
  #isRung = false;
  #wake: () => void = () => undefined;

  ring(): void {
    this.#isRung = true;
    this.#wake();
  }

  reset(): void {
    this.#isRung = false;
  }

  /** Waits until it is rung since `reset`, for `ms` at most, or until the signal aborts. */
  async wait(ms: number | undefined, signal: AbortSignal): Promise<void> {
    if (this.#isRung || signal.aborted) return;
    const rung = new AbortController();
    this.#wake = () => rung.abort();
    signal.addEventListener("abort", this.#wake, { once: true });
    await pause(ms ?? 2 ** 31 - 1, rung.signal);
    signal.removeEventListener("abort", this.#wake);
  }
}

import { Refused, RetryLater, retryAfterMs } from "millrace/functions";
import { environment } from "./runtime.ts";

/** A service that a function calls. */
export interface UpstreamOptions {
  /** For people: the name that error messages use. */
  readonly name: string;
  readonly baseUrl: string;
  /** The variable that holds the Bearer token. */
  readonly tokenName: string;
  /** Works without a token as well. @default false */
  readonly isTokenOptional?: boolean;
  /** Sent with every POST: the job's, so that the service can tell a repetition. */
  readonly idempotencyKey: string;
  /** The job's. */
  readonly signal: AbortSignal;
  /** @default 30,000 */
  readonly timeoutMs?: number;
}

export interface UpstreamCall {
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON, by POST. */
  readonly body?: unknown;
  /** Answers with one of these statuses are given back and not thrown. */
  readonly expected?: readonly number[];
}

export interface UpstreamAnswer {
  readonly status: number;
  /** Null for an empty body. */
  readonly body: unknown;
}

/** Statuses by which a service asks to be left alone for a while. */
const BUSY: readonly number[] = [408, 425, 429, 503];
/** How long, when it does not say. */
const BUSY_SECONDS = 30;
/** The most of its words that is quoted. */
const MOST_QUOTED = 300;

/**
 * Calls a service with JSON. What goes wrong is thrown as what it means for the job: `RetryLater` when the service is busy, `Refused` when
 * it will not do this for us, an Error when it failed. The token is never part of a message.
 */
export class Upstream {
  readonly #options: UpstreamOptions;
  readonly #base: URL;
  readonly #token: string | undefined;

  constructor(options: UpstreamOptions) {
    this.#options = options;
    if (!URL.canParse(options.baseUrl)) {
      throw new Refused(`${options.name} can't be called: its address is not a URL`);
    }
    // Without a slash its last part would be replaced by what is called.
    this.#base = new URL(options.baseUrl.replace(/\/*$/, "/"));
    this.#token = environment(options.tokenName);
    if (this.#token === undefined && !options.isTokenOptional) {
      throw new Refused(`${options.tokenName} is not set: ${options.name} can't be called`);
    }
  }

  /** `target` is a path below the base URL, or the address of a next page as the service gave it. */
  async call(target: string, call: UpstreamCall = {}): Promise<UpstreamAnswer> {
    const { name, signal, timeoutMs = 30_000 } = this.#options;
    const url = this.#urlOf(target, call.query);
    const timeout = AbortSignal.timeout(timeoutMs);
    let response: Response;
    let text: string;
    try {
      response = await fetch(url, {
        method: call.body === undefined ? "GET" : "POST",
        headers: this.#headersOf(call),
        // It would take the token along.
        redirect: "error",
        signal: AbortSignal.any([signal, timeout]),
        ...(call.body !== undefined && { body: JSON.stringify(call.body) }),
      });
      text = await response.text();
    } catch (cause) {
      signal.throwIfAborted();
      if (timeout.aborted) throw new Error(`${name} did not answer within ${timeoutMs} ms`);
      throw new Error(`${name} could not be reached`, { cause });
    }
    const { status } = response;
    if (call.expected?.includes(status)) return { status, body: null };
    if (!response.ok) this.#throwMeaning(response, text);
    return { status, body: text === "" ? null : parsed(text, name) };
  }

  #urlOf(target: string, query: UpstreamCall["query"] = {}): URL {
    const url = new URL(target.replace(/^\/+/, ""), this.#base);
    // The token is for this service only, and a payload may say where to go on.
    const isBelow = url.pathname.startsWith(this.#base.pathname);
    if (url.origin !== this.#base.origin || url.username !== "" || !isBelow) {
      throw new Refused(`${url.origin}${url.pathname} is not an address of ${this.#options.name}`);
    }
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(key, String(value));
    }
    return url;
  }

  #headersOf({ headers, body }: UpstreamCall): Record<string, string> {
    return {
      accept: "application/json",
      ...(body !== undefined && {
        "content-type": "application/json",
        "idempotency-key": this.#options.idempotencyKey,
      }),
      ...(this.#token !== undefined && { authorization: `Bearer ${this.#token}` }),
      ...headers,
    };
  }

  #throwMeaning({ status, headers }: Response, text: string): never {
    const { name, tokenName } = this.#options;
    if (status === 401 || status === 403) throw credentialsRefused(name, tokenName, String(status));
    if (BUSY.includes(status)) {
      const ms = retryAfterMs(headers.get("retry-after"), Date.now());
      throw new RetryLater(
        `${name} is busy (${status})`,
        ms === undefined ? BUSY_SECONDS : ms / 1_000,
      );
    }
    const message = `${name} answered ${status}: ${this.#quote(text)}`;
    throw status < 500 ? new Refused(message) : new Error(message);
  }

  /** Services like to repeat what they were sent. */
  #quote(text: string): string {
    const said = this.#token === undefined ? text : text.replaceAll(this.#token, "…");
    return said.trim().slice(0, MOST_QUOTED) || "no message";
  }
}

/** The service knows us and refuses, or does not know us; another try would end the same. */
export function credentialsRefused(name: string, tokenName: string, said: string): Refused {
  return new Refused(`${name} refused our credentials (${said}): check ${tokenName}`);
}

function parsed(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`${name} answered with something that is no JSON`, { cause });
  }
}

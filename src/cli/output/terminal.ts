import { createMask, type Mask } from "../mask.ts";
import { colourStyle, harmless, type Style, wantsColour } from "./style.ts";

/** Where one of the two streams goes. */
export interface Sink {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface TerminalOptions {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The two voices of the program: data goes to stdout, talk to stderr. What is said to people holds no secrets. */
export class Terminal {
  readonly style: Style;
  readonly talkStyle: Style;
  /** Whether somebody watches: only then are there progress bars. */
  readonly isWatched: boolean;
  readonly #stdout: Sink;
  readonly #stderr: Sink;
  #hidden: readonly (string | undefined)[] = [];
  #secrets: readonly string[] = [];
  #mask: Mask = createMask([]);

  constructor({ stdout, stderr, env }: TerminalOptions) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.style = colourStyle(wantsColour(env, stdout.isTTY === true));
    this.talkStyle = colourStyle(wantsColour(env, stderr.isTTY === true));
    this.isWatched = stderr.isTTY === true && !env["CI"] && env["TERM"] !== "dumb";
  }

  /** The width that lines of data should keep to; a pipe has none. */
  get width(): number {
    return this.#stdout.isTTY
      ? Math.max(60, this.#stdout.columns ?? 100)
      : Number.POSITIVE_INFINITY;
  }

  /** The passwords of these URLs never appear, wherever they stand in a text. */
  hide(urls: readonly (string | undefined)[]): void {
    this.#hidden = [...this.#hidden, ...urls];
    this.#mask = createMask(this.#hidden, this.#secrets);
  }

  /** Nor do these secrets. */
  hideSecrets(secrets: readonly string[]): void {
    this.#secrets = [...this.#secrets, ...secrets];
    this.#mask = createMask(this.#hidden, this.#secrets);
  }

  /** A text without the secrets in it, for streams that are written past us. */
  masked(text: string): string {
    return this.#mask(text);
  }

  /** A line of data for people. */
  line(text = ""): void {
    this.#stdout.write(`${harmless(this.#mask(text))}\n`);
  }

  lines(texts: readonly string[]): void {
    if (texts.length > 0) this.line(texts.join("\n"));
  }

  /** One JSON document on one line. What the database holds goes to programs as it is. */
  json(value: unknown): void {
    this.raw(JSON.stringify(value));
  }

  /** One JSON document in our own words, such as an event of a worker: without secrets. */
  event(value: unknown): void {
    this.raw(this.#mask(JSON.stringify(value)));
  }

  /** Data that must not be changed by a single character. */
  raw(text: string): void {
    this.#stdout.write(`${text}\n`);
  }

  /** A line of talk. */
  say(text = ""): void {
    this.#stderr.write(`${harmless(this.#mask(text))}\n`);
  }

  /** The stream under a progress bar. */
  get talkStream(): Sink {
    return this.#stderr;
  }
}

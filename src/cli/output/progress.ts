import type { Terminal } from "./terminal.ts";
import { count } from "./words.ts";

export interface ProgressOptions {
  /** What is being done: `enqueuing`. */
  readonly label: string;
  readonly total: number;
  /** How an amount reads. @default with thousands set apart */
  readonly format?: (value: number) => string;
}

/** How far a long piece of work is. */
export interface Progress {
  update(value: number): void;
  /** A line of talk that stays above the bar. */
  note(line: string): void;
  /** Takes the bar away; what was done is told by whoever did it. */
  end(): void;
}

/** Without a terminal a line now and then is enough. */
const PLAIN_INTERVAL_MS = 2_000;

/** A bar on stderr where somebody watches, else plain lines every few seconds. */
export async function startProgress(
  terminal: Terminal,
  { label, total, format = count }: ProgressOptions,
): Promise<Progress> {
  if (!terminal.isWatched) return plainLines(terminal, { label, total, format });
  const { MultiBar } = await import("cli-progress");
  // Several bars only because that is the kind that lets lines pass above.
  const bars = new MultiBar({
    // A terminal is a writable stream; our own interface says less of it.
    stream: terminal.talkStream as unknown as NodeJS.WritableStream,
    format: `  ${label}  {bar}  {shown} of {whole}  {eta_formatted} left`,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 30,
    hideCursor: true,
    clearOnComplete: true,
    gracefulExit: false,
    fps: 10,
  });
  const words = (value: number): object => ({ shown: format(value), whole: format(total) });
  const bar = bars.create(total, 0, words(0));
  return {
    update: (value) => bar.update(value, words(value)),
    note: (line) => bars.log(`${terminal.masked(line)}\n`),
    end() {
      // Lines that were passed since the last picture would be lost.
      bars.update();
      bars.stop();
    },
  };
}

function plainLines(
  terminal: Terminal,
  { label, total, format }: Required<ProgressOptions>,
): Progress {
  let lastAt = performance.now();
  return {
    update(value) {
      if (performance.now() - lastAt < PLAIN_INTERVAL_MS) return;
      lastAt = performance.now();
      const whole = total > 0 ? ` of ${format(total)}` : "";
      terminal.say(`${label}: ${format(value)}${whole}`);
    },
    note: (line) => terminal.say(line),
    end: () => undefined,
  };
}

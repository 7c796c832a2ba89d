import type { Deno } from "./deno.ts";
import type { FunctionEnvironment } from "./environment.ts";
import { findFunction, type LocalFunction } from "./find-functions.ts";
import { type FunctionProcess, type LogStream, startFunctionProcess } from "./function-process.ts";
import { firstChange, importedFiles, nearFiles, type Stamps, stampsOf } from "./source-files.ts";

/** What happens to functions. */
export type FunctionEvent =
  | { readonly kind: "started"; readonly name: string; readonly pid: number; readonly ms: number }
  | {
      readonly kind: "log";
      readonly name: string;
      readonly stream: LogStream;
      readonly line: string;
    }
  /** A file is not as it was: the next request gets the new code. */
  | { readonly kind: "changed"; readonly name: string; readonly path: string }
  | { readonly kind: "failed"; readonly name: string; readonly error: Error }
  /** Its process ended by itself; the next request starts another. */
  | { readonly kind: "ended"; readonly name: string; readonly how: string }
  /** Variables of a `.env` file that were left out: Supabase sets these itself. */
  | { readonly kind: "refused"; readonly name: string; readonly variables: readonly string[] };

export interface HostOptions {
  readonly deno: Deno;
  readonly projectDir: string;
  readonly functionsDir: string;
  readonly environment: (fn: LocalFunction) => Promise<FunctionEnvironment>;
  readonly onEvent: (event: FunctionEvent) => void;
  readonly graceMs: number;
}

/** A process that is held for a request: it is not stopped, whatever happens to its files, until that is over. */
export interface Held {
  readonly process: FunctionProcess;
  release(): void;
}

interface Run {
  readonly fn: LocalFunction;
  readonly process: Promise<FunctionProcess>;
  readonly abort: AbortController;
  /** Requests that hold it. */
  holders: number;
  isRetired: boolean;
  stamps: Stamps;
  /** Imported from further away. */
  far: readonly string[];
}

/** One function: started at its first request, started anew when its files change, one process at a time. */
export class FunctionHost {
  readonly name: string;
  readonly #options: HostOptions;
  /** Those that are not gone yet, the current one included. */
  readonly #runs = new Set<Run>();
  #run: Run | undefined;
  /** What the last start that failed was made of. */
  #failed: Pick<Run, "fn" | "stamps" | "far"> | undefined;

  constructor(name: string, options: HostOptions) {
    this.name = name;
    this.#options = options;
  }

  /** The process to send a request to; undefined when there is no such function. Rejects when it does not start. */
  async hold(): Promise<Held | undefined> {
    const run = await this.#ensure();
    if (!run) return undefined;
    run.holders += 1;
    const release = (): void => {
      run.holders -= 1;
      if (run.isRetired && run.holders === 0) void this.#stop(run);
    };
    try {
      return { process: await run.process, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Starts it anew when its files are not as they were at its start. A function that nobody asked for is left alone. */
  async refresh(): Promise<void> {
    const known = this.#run ?? this.#failed;
    if (!known) return;
    // Taken together: what it imports is learned while this looks.
    const { fn, far, stamps } = known;
    const now = await stampsOf([...(await nearFiles(fn)), ...far]);
    const path = firstChange(stamps, now);
    if (path === undefined || (this.#run ?? this.#failed) !== known) return;
    this.#options.onEvent({ kind: "changed", name: this.name, path });
    this.#failed = undefined;
    if (this.#run) this.#retire(this.#run);
    // Started at once: whoever has just saved the file wants to see whether it starts.
    await this.hold().then(
      (held) => held?.release(),
      () => undefined,
    );
  }

  async stop({ isForced = false }: { isForced?: boolean } = {}): Promise<void> {
    this.#run = undefined;
    await Promise.all([...this.#runs].map((run) => this.#stop(run, isForced)));
  }

  async #ensure(): Promise<Run | undefined> {
    if (this.#run) return this.#run;
    const fn = await findFunction(this.#options.functionsDir, this.name);
    // Somebody else may have started it meanwhile.
    if (!fn || this.#run) return this.#run;
    return this.#start(fn);
  }

  #start(fn: LocalFunction): Run {
    const abort = new AbortController();
    const run: Run = {
      fn,
      abort,
      holders: 0,
      isRetired: false,
      stamps: new Map(),
      far: [],
      process: this.#launch(fn, abort.signal, (known) => Object.assign(run, known)),
    };
    this.#run = run;
    this.#runs.add(run);
    run.process.then(
      (process) => this.#watchEnd(run, process),
      (error: unknown) => {
        this.#runs.delete(run);
        if (this.#run !== run) return;
        this.#run = undefined;
        this.#failed = run;
        this.#options.onEvent({ kind: "failed", name: this.name, error: toError(error) });
      },
    );
    return run;
  }

  async #launch(
    fn: LocalFunction,
    signal: AbortSignal,
    learn: (known: Pick<Run, "stamps"> | Pick<Run, "stamps" | "far">) => void,
  ): Promise<FunctionProcess> {
    const { deno, projectDir, environment, onEvent, graceMs } = this.#options;
    const { name } = this;
    const startedAt = performance.now();
    const startedAtEpoch = Date.now();
    // Before it reads them: what is saved from now on counts as changed.
    const near = await stampsOf(await nearFiles(fn));
    learn({ stamps: near });
    const { variables, refused } = await environment(fn);
    if (refused.length > 0) onEvent({ kind: "refused", name, variables: refused });
    // How far it reaches is nothing that its first request waits for.
    void importedFiles(deno, fn, variables).then(async (far) => {
      const stamps = await stampsOf(far);
      learn({ far, stamps: new Map([...untouchedSince(startedAtEpoch, stamps), ...near]) });
    });
    const process = await startFunctionProcess({
      deno,
      fn,
      projectDir,
      environment: variables,
      signal,
      graceMs,
      onLine: (stream, line) => onEvent({ kind: "log", name, stream, line }),
    });
    const ms = performance.now() - startedAt;
    onEvent({ kind: "started", name, pid: process.pid, ms });
    return process;
  }

  #watchEnd(run: Run, process: FunctionProcess): void {
    void process.ended.then((how) => {
      this.#runs.delete(run);
      if (run.isRetired) return;
      run.isRetired = true;
      if (this.#run === run) this.#run = undefined;
      this.#options.onEvent({ kind: "ended", name: this.name, how });
    });
  }

  #retire(run: Run): void {
    run.isRetired = true;
    if (this.#run === run) this.#run = undefined;
    if (run.holders === 0) void this.#stop(run);
  }

  async #stop(run: Run, isForced = false): Promise<void> {
    run.isRetired = true;
    run.abort.abort(new Error("the function was stopped"));
    const process = await run.process.catch(() => undefined);
    await process?.stop({ isForced });
  }
}

/** A file that changed while the function was starting may have been read before or after: it counts as changed. */
function untouchedSince(epochMs: number, stamps: Stamps): Stamps {
  return new Map(
    [...stamps].map(([path, stamp]) => [path, Number.parseFloat(stamp) >= epochMs ? "" : stamp]),
  );
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

import { callClean } from "../core/clean-context.ts";
import { InvalidResultError } from "../core/errors.ts";
import type { BatchContext } from "../core/handler.ts";
import { parseInput } from "../core/input.ts";
import type { Logger } from "../core/logger.ts";
import { readOutcome } from "../core/outcomes.ts";
import type { Attempt } from "./attempt.ts";
import { type ContextTools, JobContext } from "./job-context.ts";
import type { Route } from "./routes.ts";
import type { Verdicts } from "./verdicts.ts";

/** One call of a batch handler. Jobs whose input does not fit fail alone; the others make up the batch. */
export class BatchRun {
  readonly #attempts: readonly Attempt[];
  readonly #route: Route;
  readonly #verdicts: Verdicts;
  readonly #tools: ContextTools;
  readonly #controller = new AbortController();

  constructor(attempts: readonly Attempt[], route: Route, verdicts: Verdicts, tools: ContextTools) {
    this.#attempts = attempts;
    this.#route = route;
    this.#verdicts = verdicts;
    this.#tools = tools;
  }

  /** Never rejects. */
  async perform(): Promise<void> {
    for (const attempt of this.#attempts) attempt.whenAborted(() => this.#abortIfAll());
    const inputs = new Map<Attempt, unknown>();
    for (const attempt of this.#attempts) {
      try {
        const input = parseInput(this.#route.job, attempt.payload, (error) => {
          attempt.fault = error;
        });
        inputs.set(attempt, await input);
      } catch (error) {
        this.#fail(attempt, error);
      }
    }
    // While schemas were at work, time may have run out for some.
    const runnable = [...inputs.keys()].filter((attempt) => attempt.state === "running");
    if (runnable.length === 0) return;
    const jobs = runnable.map(
      (attempt) => new JobContext(inputs.get(attempt), attempt, this.#tools),
    );
    for (const attempt of runnable) attempt.isBegun = true;
    try {
      const { batch } = this.#route;
      await this.#deliver(runnable, batch && (await callClean(batch.handle, this.#context(jobs))));
    } catch (error) {
      for (const attempt of runnable) this.#fail(attempt, error);
    }
  }

  #fail(attempt: Attempt, error: unknown): void {
    try {
      this.#verdicts.threw(attempt, error);
    } catch (fault) {
      this.#verdicts.crashed(attempt, fault);
    }
  }

  #context(jobs: readonly JobContext[]): BatchContext {
    const log: Logger = this.#tools.logger;
    return { type: this.#route.job.type, jobs, signal: this.#controller.signal, log };
  }

  /** One entry for each job; nothing, or one outcome, is meant for all of them. */
  async #deliver(attempts: readonly Attempt[], answer: unknown): Promise<void> {
    if (answer === undefined || answer === null || readOutcome(answer)) {
      await Promise.all(attempts.map((attempt) => this.#end(attempt, () => answer)));
      return;
    }
    if (!Array.isArray(answer) || answer.length !== attempts.length) {
      const got = Array.isArray(answer) ? `${answer.length} entries` : `a ${typeof answer}`;
      const error = new InvalidResultError(
        "",
        `expected one entry for each of ${attempts.length} jobs, got ${got}`,
      );
      for (const attempt of attempts) attempt.fault = error;
      throw error;
    }
    await Promise.all(
      attempts.map((attempt, index) => this.#end(attempt, () => answer[index] as unknown)),
    );
  }

  /** What one entry does when it is looked at is the fault of its job alone. Never rejects. */
  async #end(attempt: Attempt, entry: () => unknown): Promise<void> {
    try {
      await this.#verdicts.returned(attempt, entry());
    } catch (error) {
      this.#verdicts.crashed(attempt, error);
    }
  }

  #abortIfAll(): void {
    const attempts = this.#attempts;
    if (!attempts.every((attempt) => attempt.isAborted || attempt.state === "ended")) return;
    const last = attempts.find((attempt) => attempt.isAborted);
    this.#controller.abort(last?.signal.reason);
  }
}

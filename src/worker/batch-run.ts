import { InvalidResultError } from "../core/errors.ts";
import type { BatchContext } from "../core/handler.ts";
import { parseInput } from "../core/input.ts";
import type { Logger } from "../core/logger.ts";
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

  abort(reason: Error): void {
    this.#controller.abort(reason);
  }

  /** Never rejects. */
  async perform(): Promise<void> {
    const runnable: Attempt[] = [];
    const jobs: JobContext[] = [];
    for (const attempt of this.#attempts) {
      try {
        const input = await parseInput(this.#route.job, attempt.row[5]);
        jobs.push(new JobContext(input, attempt, this.#tools));
        runnable.push(attempt);
      } catch (error) {
        this.#verdicts.threw(attempt, error);
      }
    }
    if (runnable.length === 0) return;
    for (const attempt of runnable) attempt.whenAborted(() => this.#abortIfAll(runnable));
    try {
      const answer = await this.#route.batch?.handle(this.#context(jobs));
      this.#deliver(runnable, answer);
    } catch (error) {
      for (const attempt of runnable) this.#verdicts.threw(attempt, error);
    }
  }

  #context(jobs: readonly JobContext[]): BatchContext {
    const log: Logger = this.#tools.logger;
    return { type: this.#route.job.type, jobs, signal: this.#controller.signal, log };
  }

  #deliver(attempts: readonly Attempt[], answer: unknown): void {
    if (answer === undefined || answer === null) {
      for (const attempt of attempts) this.#verdicts.returned(attempt, undefined);
      return;
    }
    if (!Array.isArray(answer) || answer.length !== attempts.length) {
      const got = Array.isArray(answer) ? `${answer.length} entries` : `a ${typeof answer}`;
      throw new InvalidResultError(
        "",
        `expected one entry for each of ${attempts.length} jobs, got ${got}`,
      );
    }
    for (const [index, attempt] of attempts.entries())
      this.#verdicts.returned(attempt, answer[index]);
  }

  #abortIfAll(attempts: readonly Attempt[]): void {
    if (!attempts.every((attempt) => attempt.isAborted || attempt.state === "ended")) return;
    const [first] = attempts;
    this.#controller.abort(first?.signal.reason);
  }
}

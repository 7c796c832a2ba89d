import type { Problem } from "./problem.ts";

/** Thrown by what reads a request, and turned into the answer. */
export class RequestRefused extends Error {
  override readonly name = "RequestRefused";
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.title);
    this.problem = problem;
  }
}

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

/** 405, with the methods that would do. */
export function methodRefused(allow: string): RequestRefused {
  return new RequestRefused({
    status: 405,
    code: "METHOD_NOT_ALLOWED",
    title: `Use ${allow}`,
    headers: { allow },
  });
}

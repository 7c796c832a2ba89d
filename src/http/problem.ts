/** A refusal that a machine can read: RFC 9457, with a code of ours beside the title. */
export interface Problem {
  readonly status: number;
  /** Stable, for programs: `UNAUTHORIZED`. */
  readonly code: string;
  /** What is wrong, in a sentence. */
  readonly title: string;
  /** How to mend it. */
  readonly detail?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The answer that tells a problem. Nothing secret belongs into it: it is for whoever asked. */
export function problemResponse({ status, code, title, detail, headers }: Problem): Response {
  const body = { type: "about:blank", status, code, title, ...(detail && { detail }) };
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/problem+json", ...headers },
  });
}

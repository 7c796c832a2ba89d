import type { AdvanceRequest } from "../db/worker-functions.ts";
import type { Attempt } from "./attempt.ts";
import type { SettlementBatch } from "./settlements.ts";

type EncodedBatch = Pick<
  AdvanceRequest,
  | "wholeLeases"
  | "wholeSizes"
  | "wholeElapsedMs"
  | "wholeResults"
  | "doneLeases"
  | "doneIds"
  | "doneElapsedMs"
  | "doneResults"
  | "rest"
>;

/** The batch as parameters of a call. Texts are put together by hand: this is done for every job. */
export function encodeBatch({ whole, done, rest }: SettlementBatch): EncodedBatch {
  const parts = whole.map((lease) => ({ lease, ...encodeAttempts(lease.attempts) }));
  const hasWholeResults = parts.some(({ results }) => results !== null);
  const doneParts = encodeAttempts(done);
  return {
    wholeLeases: arrayText(whole.map(({ id }) => id).join(",")),
    wholeSizes: arrayText(whole.map(({ attempts }) => attempts.length).join(",")),
    wholeElapsedMs: arrayText(parts.map(({ elapsed }) => elapsed).join(",")),
    wholeResults: hasWholeResults
      ? `[${parts.map(({ lease, results }) => results ?? nulls(lease.attempts.length)).join(",")}]`
      : null,
    doneLeases: arrayText(done.map(({ lease }) => lease.id).join(",")),
    doneIds: arrayText(done.map(({ id }) => id).join(",")),
    doneElapsedMs: arrayText(doneParts.elapsed),
    doneResults: doneParts.results === null ? null : `[${doneParts.results}]`,
    rest: rest.length === 0 ? null : `[${rest.map(({ text }) => text).join(",")}]`,
  };
}

/** Milliseconds and results of these attempts, each divided by commas; no results at all are null. */
function encodeAttempts(attempts: readonly Attempt[]): { elapsed: string; results: string | null } {
  let elapsed = "";
  let results = "";
  let hasResults = false;
  for (const { elapsedMs, resultText } of attempts) {
    elapsed += `,${Math.round(elapsedMs)}`;
    results += `,${resultText ?? "null"}`;
    if (resultText !== null) hasResults = true;
  }
  return { elapsed: elapsed.slice(1), results: hasResults ? results.slice(1) : null };
}

function nulls(count: number): string {
  return Array(count).fill("null").join(",");
}

/** An array as Postgres writes it; null when it is empty. */
function arrayText(members: string): string | null {
  return members === "" ? null : `{${members}}`;
}

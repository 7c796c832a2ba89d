/**
 * A tenant's day in a few lines: reads the day's activities page by page, counts them, and hands the digest over to be sent. The service
 * that sends it gets the same Idempotency-Key with every attempt, so people get one digest a day.
 *
 * DIGEST_API_URL, a service of yours:
 *   GET  activities?date=2026-11-22&tenant_id=acme&cursor=… → { "items": [{ "id", "kind", "title", "at" }], "next_cursor": text or null }
 *   POST digests { tenant_id, date, recipients, total, by_kind, highlights } → { "id": text }
 * DIGEST_API_KEY, its Bearer token.
 */
import { type JobCall, Refused } from "millrace/functions";
import { z } from "zod";
import { answerAs } from "../_shared/answer.ts";
import { entryOf } from "../_shared/entry.ts";
import { environment } from "../_shared/runtime.ts";
import { Upstream } from "../_shared/upstream.ts";

const NAME = "The digest API";
/** Of each kind so many of the newest are named. */
const MOST_HIGHLIGHTS = 3;
const MOST_PAGES = 200;

const Payload = z.strictObject({
  /** The day, as the tenant counts days. */
  date: z.iso.date(),
  /** Whoever the tenant has subscribed, when it is left out. */
  recipients: z.array(z.email()).min(1).max(500).optional(),
});
type Payload = z.infer<typeof Payload>;

const Activity = z.object({
  id: z.string(),
  kind: z.string(),
  title: z.string(),
  at: z.iso.datetime({ offset: true }),
});
type Activity = z.infer<typeof Activity>;

const Page = z.object({ items: z.array(Activity), next_cursor: z.string().nullish() });
const Digest = z.object({ id: z.string() });

export default entryOf(Payload, async (call) => {
  const { job, payload, progress } = call;
  const api = apiOf(call);
  // By id: an activity may move to the next page while we read.
  const activities = new Map<string, Activity>();
  let cursor: string | undefined;
  let pages = 0;
  do {
    const query = { date: payload.date, tenant_id: job.tenantId ?? undefined, cursor };
    const page = answerAs(Page, (await api.call("activities", { query })).body, NAME);
    for (const activity of page.items) activities.set(activity.id, activity);
    cursor = page.next_cursor || undefined;
    pages += 1;
    progress(Math.min(90, 10 * pages), `${activities.size} activities`);
    if (pages > MOST_PAGES) throw new Refused(`${NAME} has more than ${MOST_PAGES} pages of a day`);
  } while (cursor !== undefined);
  const summary = { activities: activities.size, pages };
  // An empty digest teaches people not to read it.
  if (activities.size === 0) return { ...summary, digest_id: null };
  const body = {
    tenant_id: job.tenantId,
    date: payload.date,
    ...(payload.recipients && { recipients: payload.recipients }),
    ...digestOf([...activities.values()]),
  };
  const { id } = answerAs(Digest, (await api.call("digests", { body })).body, NAME);
  return { ...summary, digest_id: id };
});

function apiOf({ job, signal }: JobCall<Payload>): Upstream {
  const baseUrl = environment("DIGEST_API_URL");
  if (baseUrl === undefined) throw new Refused("DIGEST_API_URL is not set");
  return new Upstream({
    name: NAME,
    baseUrl,
    tokenName: "DIGEST_API_KEY",
    idempotencyKey: job.idempotencyKey,
    signal,
  });
}

/** How many of each kind, and the newest of each. */
function digestOf(activities: readonly Activity[]): {
  total: number;
  by_kind: Record<string, number>;
  highlights: readonly Activity[];
} {
  const newestFirst = activities.toSorted(
    (one, other) => Date.parse(other.at) - Date.parse(one.at),
  );
  const kinds = Map.groupBy(newestFirst, ({ kind }) => kind);
  return {
    total: activities.length,
    by_kind: Object.fromEntries([...kinds].map(([kind, all]) => [kind, all.length])),
    highlights: [...kinds.values()].flatMap((all) => all.slice(0, MOST_HIGHLIGHTS)),
  };
}

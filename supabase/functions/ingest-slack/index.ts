/**
 * Messages of a Slack channel, page by page with Slack's cursor. A message is known by its channel and `ts`, so what is stored by these is
 * stored once, however often a run is repeated.
 *
 * SLACK_BOT_TOKEN (channels:history, or that of the conversation's kind); SLACK_API_URL; INGEST_SINK_URL and INGEST_SINK_TOKEN for where
 * messages go.
 */
import { type JobCall, Refused, RetryLater } from "millrace/functions";
import { z } from "zod";
import { answerAs } from "../_shared/answer.ts";
import { entryOf } from "../_shared/entry.ts";
import { Listed } from "../_shared/listed.ts";
import { environment } from "../_shared/runtime.ts";
import { sinkOf } from "../_shared/sink.ts";
import { credentialsRefused, Upstream } from "../_shared/upstream.ts";

const NAME = "Slack";
const TOKEN = "SLACK_BOT_TOKEN";

/** Slack's time stamps: they are compared as texts, and too fine for a number. */
const Ts = z.string().regex(/^\d{10}\.\d{6}$/, "must be a time stamp such as 1767225600.000000");
const Payload = z.strictObject({
  channel: z.string().regex(/^[CDG][A-Z0-9]{2,20}$/, "must be the id of a conversation"),
  /** Only messages after this one: an earlier result's `newest_ts`. */
  oldest: Ts.optional(),
  /** Only messages before this one. */
  latest: Ts.optional(),
  /** Where an earlier run ended: its result's `next_cursor`. */
  cursor: z.string().min(1).max(500).optional(),
  page_size: z.int().min(1).max(999).default(200),
  /** A run ends after so many; its result says where to go on. */
  max_pages: z.int().min(1).max(200).default(50),
});
type Payload = z.infer<typeof Payload>;

const Page = z.object({
  messages: z.array(z.looseObject({ ts: Ts })),
  response_metadata: z.object({ next_cursor: z.string().optional() }).optional(),
});
/** Slack refuses with status 200. */
const Verdict = z.object({ ok: z.boolean(), error: z.string().optional() });

const OURS: readonly string[] = [
  "not_authed",
  "invalid_auth",
  "account_inactive",
  "token_expired",
  "token_revoked",
  "no_permission",
  "missing_scope",
  "not_allowed_token_type",
];
const THEIRS: readonly string[] = [
  "fatal_error",
  "internal_error",
  "request_timeout",
  "service_unavailable",
];

export default entryOf(Payload, async (call) => {
  const { payload, progress } = call;
  const slack = slackOf(call);
  const sink = sinkOf("INGEST", call);
  const messages = new Listed();
  let cursor = payload.cursor;
  let newestTs = payload.oldest ?? null;
  let pages = 0;
  do {
    const page = await readPage(slack, payload, cursor);
    if (page.messages.length > 0) {
      await sink.store({ source: "slack", channel: payload.channel, messages: page.messages });
    }
    for (const { ts } of page.messages) {
      if (newestTs === null || ts > newestTs) newestTs = ts;
    }
    messages.add(page.messages.map(({ ts }) => `${payload.channel}:${ts}`));
    cursor = page.response_metadata?.next_cursor || undefined;
    pages += 1;
    progress((100 * pages) / payload.max_pages, `${messages.count} messages`);
  } while (cursor !== undefined && pages < payload.max_pages);
  return {
    messages: messages.count,
    pages,
    /** For the next job: what is newer than this; and the rest of this, where there is one. */
    newest_ts: newestTs,
    next_cursor: cursor ?? null,
    ...messages.summary(sink.isSet),
  };
});

function slackOf({ job, signal }: JobCall<Payload>): Upstream {
  return new Upstream({
    name: NAME,
    baseUrl: environment("SLACK_API_URL") ?? "https://slack.com/api",
    tokenName: TOKEN,
    idempotencyKey: job.idempotencyKey,
    signal,
  });
}

async function readPage(
  slack: Upstream,
  { channel, oldest, latest, page_size: limit }: Payload,
  cursor: string | undefined,
): Promise<z.infer<typeof Page>> {
  const { body } = await slack.call("conversations.history", {
    query: { channel, limit, oldest, latest, cursor },
  });
  const { ok, error = "no reason" } = answerAs(Verdict, body, NAME);
  if (ok) return answerAs(Page, body, NAME);
  if (OURS.includes(error)) throw credentialsRefused(NAME, TOKEN, error);
  if (error === "ratelimited") throw new RetryLater(`${NAME} is busy (${error})`, 30);
  const message = `${NAME} refused conversations.history: ${error}`;
  throw THEIRS.includes(error) ? new Error(message) : new Refused(message);
}

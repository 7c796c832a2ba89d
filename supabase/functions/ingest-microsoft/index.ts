/**
 * Mail of a Microsoft 365 mailbox, by delta query: the first run reads a folder, a run with the `delta_link` of the one before reads what
 * has changed since. Ids are immutable ones, so what is stored by id is stored once, however often a run is repeated.
 *
 * MICROSOFT_ACCESS_TOKEN (Mail.Read); MICROSOFT_GRAPH_URL; INGEST_SINK_URL and INGEST_SINK_TOKEN for where messages go.
 */
import type { JobCall } from "millrace/functions";
import { z } from "zod";
import { answerAs } from "../_shared/answer.ts";
import { entryOf } from "../_shared/entry.ts";
import { Listed } from "../_shared/listed.ts";
import { environment } from "../_shared/runtime.ts";
import { sinkOf } from "../_shared/sink.ts";
import { Upstream } from "../_shared/upstream.ts";

const NAME = "Microsoft Graph";

const Payload = z.strictObject({
  /** Whose mailbox: an id or a principal name. The token's own, when it is left out. */
  user_id: z.string().min(1).max(200).optional(),
  /** A folder's id, or a name that Graph knows. */
  folder: z.string().min(1).max(200).default("inbox"),
  /** Where an earlier run ended: its result's `delta_link`, or its `next_link`. */
  delta_link: z.url().optional(),
  page_size: z.int().min(1).max(200).default(50),
  /** A run ends after so many; its result says where to go on. */
  max_pages: z.int().min(1).max(200).default(50),
});
type Payload = z.infer<typeof Payload>;

const Message = z.looseObject({
  id: z.string(),
  /** There is no more of it than its id. */
  "@removed": z.object({ reason: z.string() }).optional(),
});
const Page = z.object({
  value: z.array(Message),
  "@odata.nextLink": z.url().optional(),
  "@odata.deltaLink": z.url().optional(),
});

const FIELDS = "id,conversationId,subject,from,toRecipients,receivedDateTime,isRead,bodyPreview";

export default entryOf(Payload, async (call) => {
  const { payload, progress } = call;
  const graph = graphOf(call);
  const sink = sinkOf("INGEST", call);
  const messages = new Listed();
  let removed = 0;
  let isResync = false;
  let deltaLink: string | undefined;
  let nextLink: string | undefined = payload.delta_link;
  let pages = 0;
  for (; pages < payload.max_pages && deltaLink === undefined; pages += 1) {
    let page = await readPage(graph, payload, nextLink);
    if (page === "expired") {
      // Graph has forgotten that state: everything is read anew, and stored over what is there.
      isResync = true;
      page = await readPage(graph, payload, undefined);
      if (page === "expired") throw new Error(`${NAME} forgets where we are at the beginning`);
    }
    const gone = page.value.filter((one) => one["@removed"] !== undefined).map(({ id }) => id);
    const found = page.value.filter((one) => one["@removed"] === undefined);
    if (page.value.length > 0) {
      await sink.store({ source: "microsoft", messages: found, removed: gone });
    }
    messages.add(found.map(({ id }) => id));
    removed += gone.length;
    ({ "@odata.nextLink": nextLink, "@odata.deltaLink": deltaLink } = page);
    if (nextLink === undefined && deltaLink === undefined) {
      throw new Error(`${NAME} answered a page that is neither the last nor names the next`);
    }
    progress((100 * (pages + 1)) / payload.max_pages, `${messages.count} messages`);
  }
  return {
    messages: messages.count,
    removed,
    pages,
    resync: isResync,
    /** For the next job: what changes from now on; and the rest of this, where there is one. */
    delta_link: deltaLink ?? null,
    next_link: deltaLink === undefined ? (nextLink ?? null) : null,
    ...messages.summary(sink.isSet),
  };
});

function graphOf({ job, signal }: JobCall<Payload>): Upstream {
  return new Upstream({
    name: NAME,
    baseUrl: environment("MICROSOFT_GRAPH_URL") ?? "https://graph.microsoft.com/v1.0",
    tokenName: "MICROSOFT_ACCESS_TOKEN",
    idempotencyKey: job.idempotencyKey,
    signal,
  });
}

/** One page: of the folder from its beginning, or the one that a link names. */
async function readPage(
  graph: Upstream,
  { user_id: userId, folder, page_size: pageSize }: Payload,
  link: string | undefined,
): Promise<z.infer<typeof Page> | "expired"> {
  const mailbox = userId === undefined ? "me" : `users/${encodeURIComponent(userId)}`;
  const start = `${mailbox}/mailFolders/${encodeURIComponent(folder)}/messages/delta`;
  const { status, body } = await graph.call(link ?? start, {
    // A link has the query of the first call in it.
    query: link === undefined ? { $select: FIELDS } : {},
    headers: { prefer: `odata.maxpagesize=${pageSize}, IdType="ImmutableId"` },
    expected: [410],
  });
  return status === 410 ? "expired" : answerAs(Page, body, NAME);
}

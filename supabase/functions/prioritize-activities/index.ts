/**
 * Puts a person's activities in the order in which they matter. A scoring service says how much each does, in batches; equal scores go by
 * what is due first. The result is a pure function of the scores, so a repeated run stores the same order again.
 *
 * PRIORITIZE_API_URL, a service of yours:
 *   POST scores { tenant_id, goal, activities: [{ id, title, due_at }] } → { "scores": [{ "id", "score": 0 to 1, "reason": text }] }
 * PRIORITIZE_API_KEY, its Bearer token; PRIORITIES_SINK_URL and PRIORITIES_SINK_TOKEN for where the order goes.
 */
import { type JobCall, Refused } from "millrace/functions";
import { z } from "zod";
import { answerAs } from "../_shared/answer.ts";
import { entryOf } from "../_shared/entry.ts";
import { Listed } from "../_shared/listed.ts";
import { environment } from "../_shared/runtime.ts";
import { sinkOf } from "../_shared/sink.ts";
import { Upstream } from "../_shared/upstream.ts";

const NAME = "The scoring API";

const Activity = z.object({
  id: z.string().min(1).max(200),
  title: z.string().min(1).max(2_000),
  due_at: z.iso.datetime({ offset: true }).optional(),
});
type Activity = z.infer<typeof Activity>;

const Payload = z.strictObject({
  activities: z
    .array(Activity)
    .min(1)
    .max(2_000)
    .refine((all) => new Set(all.map(({ id }) => id)).size === all.length, "ids must differ"),
  /** What the person is after, in words. */
  goal: z.string().max(2_000).optional(),
  batch_size: z.int().min(1).max(500).default(50),
});
type Payload = z.infer<typeof Payload>;

const Score = z.object({
  id: z.string(),
  score: z.number().min(0).max(1),
  reason: z.string().optional(),
});
type Score = z.infer<typeof Score>;

const Scores = z.object({ scores: z.array(Score) });

export default entryOf(Payload, async (call) => {
  const { payload, progress } = call;
  const { activities, batch_size: size } = payload;
  const api = apiOf(call);
  const sink = sinkOf("PRIORITIES", call);
  const scores = new Map<string, Score>();
  for (let start = 0; start < activities.length; start += size) {
    const batch = activities.slice(start, start + size);
    for (const score of await scoresOf(api, call, batch)) scores.set(score.id, score);
    progress((90 * scores.size) / activities.length, `${scores.size} of ${activities.length}`);
  }
  const order = ranked(activities, scores);
  await sink.store({ priorities: order });
  const ids = new Listed();
  ids.add(order.map(({ id }) => id));
  return { activities: ids.count, top: order.slice(0, 10), ...ids.summary(sink.isSet) };
});

function apiOf({ job, signal }: JobCall<Payload>): Upstream {
  const baseUrl = environment("PRIORITIZE_API_URL");
  if (baseUrl === undefined) throw new Refused("PRIORITIZE_API_URL is not set");
  return new Upstream({
    name: NAME,
    baseUrl,
    tokenName: "PRIORITIZE_API_KEY",
    idempotencyKey: job.idempotencyKey,
    signal,
    timeoutMs: 60_000,
  });
}

/** A score for each of these activities, and for nothing else. */
async function scoresOf(
  api: Upstream,
  { job, payload: { goal } }: JobCall<Payload>,
  batch: readonly Activity[],
): Promise<Score[]> {
  const { body } = await api.call("scores", {
    body: { tenant_id: job.tenantId, ...(goal !== undefined && { goal }), activities: batch },
    // A key stands for one body: a batch is told by its first activity.
    headers: {
      "idempotency-key": `${job.idempotencyKey}_${encodeURIComponent(batch[0]?.id ?? "")}`,
    },
  });
  const { scores } = answerAs(Scores, body, NAME);
  const found = scores.filter(({ id }) => batch.some((activity) => activity.id === id));
  if (new Set(found.map(({ id }) => id)).size !== batch.length) {
    throw new Refused(`${NAME} left out some of ${batch.length} activities`);
  }
  return found;
}

/** Highest score first, then what is due first, then by id: always the same order. */
function ranked(
  activities: readonly Activity[],
  scores: ReadonlyMap<string, Score>,
): { rank: number; id: string; score: number; reason?: string }[] {
  const dueAt = ({ due_at: at }: Activity): number =>
    at === undefined ? Infinity : Date.parse(at);
  const scoreOf = ({ id }: Activity): number => scores.get(id)?.score ?? 0;
  const order = activities.toSorted((one, other) => {
    const byScore = scoreOf(other) - scoreOf(one);
    if (byScore !== 0) return byScore;
    if (dueAt(one) !== dueAt(other)) return dueAt(one) - dueAt(other);
    return one.id < other.id ? -1 : 1;
  });
  return order.map((activity, at) => {
    const reason = scores.get(activity.id)?.reason;
    return {
      rank: at + 1,
      id: activity.id,
      score: scoreOf(activity),
      ...(reason !== undefined && { reason }),
    };
  });
}

/**
 * Vectors of texts, by an embeddings API in the manner of OpenAI's. Texts are sent in batches; each batch's vectors are stored under the
 * texts' own ids before the next is asked for, so a repeated run writes the same rows again.
 *
 * OPENAI_API_KEY; EMBEDDINGS_API_URL; EMBEDDINGS_SINK_URL and EMBEDDINGS_SINK_TOKEN for where vectors go. Without a sink only their ids
 * are told: vectors are too large for a job's result.
 */
import { type JobCall, Refused } from "millrace/functions";
import { z } from "zod";
import { answerAs } from "../_shared/answer.ts";
import { entryOf } from "../_shared/entry.ts";
import { Listed } from "../_shared/listed.ts";
import { environment } from "../_shared/runtime.ts";
import { sinkOf } from "../_shared/sink.ts";
import { Upstream } from "../_shared/upstream.ts";

const NAME = "The embeddings API";

const Document = z.object({
  id: z.string().min(1).max(200),
  /** Models take some 8,000 tokens; a longer text must be cut into documents first. */
  text: z.string().trim().min(1).max(32_000),
});
type Document = z.infer<typeof Document>;

const Payload = z.strictObject({
  documents: z.array(Document).min(1).max(2_000),
  model: z.string().min(1).max(100).default("text-embedding-3-small"),
  /** Shorter vectors, from models that can cut them. */
  dimensions: z.int().min(1).max(8_192).optional(),
  batch_size: z.int().min(1).max(2_048).default(64),
});
type Payload = z.infer<typeof Payload>;

const Embeddings = z.object({
  data: z.array(z.object({ index: z.int().min(0), embedding: z.array(z.number()).min(1) })),
  usage: z.object({ total_tokens: z.int() }).optional(),
});

export default entryOf(Payload, async (call) => {
  const { payload, progress } = call;
  const { documents, model, batch_size: size } = payload;
  const api = apiOf(call);
  const sink = sinkOf("EMBEDDINGS", call);
  const vectors = new Listed();
  let tokens = 0;
  let dimensions = 0;
  for (let start = 0; start < documents.length; start += size) {
    const batch = documents.slice(start, start + size);
    const { data, usage } = await embed(api, call, batch);
    const found = batch.map(({ id }, at) => ({ id, embedding: data[at]?.embedding ?? [] }));
    await sink.store({ model, vectors: found });
    vectors.add(found.map(({ id }) => id));
    tokens += usage?.total_tokens ?? 0;
    dimensions = found[0]?.embedding.length ?? dimensions;
    progress((100 * vectors.count) / documents.length, `${vectors.count} of ${documents.length}`);
  }
  return { vectors: vectors.count, model, dimensions, tokens, ...vectors.summary(sink.isSet) };
});

function apiOf({ job, signal }: JobCall<Payload>): Upstream {
  return new Upstream({
    name: NAME,
    baseUrl: environment("EMBEDDINGS_API_URL") ?? "https://api.openai.com/v1",
    tokenName: "OPENAI_API_KEY",
    idempotencyKey: job.idempotencyKey,
    signal,
    timeoutMs: 60_000,
  });
}

/** The vectors of some texts, in the texts' order. */
async function embed(
  api: Upstream,
  { job, payload: { model, dimensions } }: JobCall<Payload>,
  batch: readonly Document[],
): Promise<z.infer<typeof Embeddings>> {
  const { body } = await api.call("embeddings", {
    body: {
      model,
      input: batch.map(({ text }) => text),
      encoding_format: "float",
      ...(dimensions !== undefined && { dimensions }),
    },
    // A key stands for one body: a batch is told by its first document.
    headers: {
      "idempotency-key": `${job.idempotencyKey}_${encodeURIComponent(batch[0]?.id ?? "")}`,
    },
  });
  const answer = answerAs(Embeddings, body, NAME);
  const data = answer.data.toSorted((one, other) => one.index - other.index);
  const isComplete = data.length === batch.length && data.every(({ index }, at) => index === at);
  if (!isComplete) {
    throw new Refused(`${NAME} answered ${data.length} vectors for ${batch.length} texts`);
  }
  return { ...answer, data };
}

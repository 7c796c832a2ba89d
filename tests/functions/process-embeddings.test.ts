import assert from "node:assert/strict";
import { test } from "node:test";
import { sendJson } from "../support/http-server.ts";
import { behavesLikeAFunction, functionRig } from "./rig.ts";

const rig = functionRig({
  name: "process-embeddings",
  urlName: "EMBEDDINGS_API_URL",
  tokenName: "OPENAI_API_KEY",
  sinkPrefix: "EMBEDDINGS",
});
const THREE = {
  documents: ["a", "b", "c"].map((id) => ({ id, text: `text ${id}` })),
  batch_size: 2,
};

behavesLikeAFunction(rig, THREE, {
  payload: { documents: [{ id: "a", text: "a" }, { id: "b" }] },
  message: /^Payload is invalid at documents\[1\]\.text: /,
});

/** A vector for each text, told in the wrong order. */
function embeds(): void {
  rig.answer = ({ body }, response) => {
    const { input } = JSON.parse(body) as { input: string[] };
    const data = input.map((text, index) => ({ index, embedding: [text.charCodeAt(5), 0.5] }));
    sendJson(response, 200, { data: data.reverse(), usage: { total_tokens: 2 * input.length } });
  };
}

test("embeds in batches and stores each text's vector under its id", async () => {
  embeds();

  const { status, body } = await rig.send({ ...THREE, dimensions: 2 });

  assert.equal(status, 200, JSON.stringify(body));
  const model = "text-embedding-3-small";
  assert.deepEqual(body, { vectors: 3, model, dimensions: 2, tokens: 6, stored: true });
  assert.deepEqual(
    rig.upstream().map((one) => [one.method, one.path, JSON.parse(one.body)]),
    [["text a", "text b"], ["text c"]].map((input) => [
      "POST",
      "/api/embeddings",
      { model, input, encoding_format: "float", dimensions: 2 },
    ]),
  );
  assert.deepEqual(
    rig.stored().map((one) => JSON.parse(one.body).vectors),
    [
      [
        { id: "a", embedding: [97, 0.5] },
        { id: "b", embedding: [98, 0.5] },
      ],
      [{ id: "c", embedding: [99, 0.5] }],
    ],
  );
  assert.equal((await rig.firstReport())["message"], "2 of 3");
});

test("a repeated run asks and stores under the same keys", async () => {
  embeds();
  const keys = (): unknown[] =>
    [...rig.upstream(), ...rig.stored()].map(({ headers }) => headers["idempotency-key"]);

  await rig.send(THREE);
  const first = keys();
  await rig.send(THREE);

  assert.deepEqual(first.slice(0, 2), ["job_42_a", "job_42_c"]);
  assert.equal(new Set(first).size, 4);
  assert.deepEqual(new Set(keys()), new Set(first));
});

test("vectors that are missing are not made up, and none stands for two texts", async () => {
  const twice = { index: 0, embedding: [1] };
  rig.answer = (_heard, response) => sendJson(response, 200, { data: [twice, twice] });
  assert.equal((await rig.send(THREE)).status, 422);

  rig.answer = (_heard, response) =>
    sendJson(response, 200, { data: [{ index: 1, embedding: [1] }] });

  const { status, body } = await rig.send(THREE);

  assert.equal(status, 422);
  assert.equal(body["title"], "The embeddings API answered 1 vectors for 2 texts");
  assert.equal(rig.stored().length, 0);
});

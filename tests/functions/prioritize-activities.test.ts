import assert from "node:assert/strict";
import { test } from "node:test";
import { sendJson } from "../support/http-server.ts";
import { behavesLikeAFunction, functionRig } from "./rig.ts";

const rig = functionRig({
  name: "prioritize-activities",
  urlName: "PRIORITIZE_API_URL",
  tokenName: "PRIORITIZE_API_KEY",
});
const FOUR = {
  activities: [
    { id: "a", title: "low" },
    { id: "b", title: "high" },
    { id: "c", title: "low", due_at: "2026-11-23T09:00:00Z" },
    { id: "d", title: "low", due_at: "2026-11-22T23:00:00-12:00" },
  ],
  goal: "ship it",
  batch_size: 3,
};

behavesLikeAFunction(rig, FOUR, {
  payload: {
    activities: [
      { id: "a", title: "one" },
      { id: "a", title: "two" },
    ],
  },
  message: /^Payload is invalid at activities: ids must differ/,
});

/** Scores by title, and one that nobody asked for. */
function scores(): void {
  rig.answer = ({ body }, response) => {
    const { activities } = JSON.parse(body) as { activities: { id: string; title: string }[] };
    const known = activities.map(({ id, title }) => ({ id, score: title === "high" ? 0.9 : 0.2 }));
    sendJson(response, 200, { scores: [...known, { id: "stranger", score: 1 }] });
  };
}

test("asks for scores in batches and puts what matters first, equals by what is due", async () => {
  scores();

  const { status, body } = await rig.send(FOUR);

  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(body, {
    activities: 4,
    top: [
      { rank: 1, id: "b", score: 0.9 },
      { rank: 2, id: "c", score: 0.2 },
      { rank: 3, id: "d", score: 0.2 },
      { rank: 4, id: "a", score: 0.2 },
    ],
    stored: false,
    ids: ["b", "c", "d", "a"],
  });
  const [first] = rig.upstream();
  assert.equal(first?.path, "/api/scores");
  assert.deepEqual(JSON.parse(first?.body ?? ""), {
    tenant_id: "acme",
    goal: "ship it",
    activities: FOUR.activities.slice(0, 3),
  });
  assert.equal((await rig.firstReport())["message"], "3 of 4");
});

test("a repeated run asks with the same keys and comes to the same order", async () => {
  scores();

  const first = await rig.send(FOUR);
  const second = await rig.send(FOUR);

  assert.deepEqual(second.body, first.body);
  assert.deepEqual(
    rig.upstream().map(({ headers }) => headers["idempotency-key"]),
    ["job_42_a", "job_42_d", "job_42_a", "job_42_d"],
  );
});

test("an activity without a score is no reason to guess one", async () => {
  rig.answer = (_heard, response) => sendJson(response, 200, { scores: [{ id: "a", score: 1 }] });

  const { status, body } = await rig.send(FOUR);

  assert.equal(status, 422);
  assert.equal(body["title"], "The scoring API left out some of 3 activities");
});

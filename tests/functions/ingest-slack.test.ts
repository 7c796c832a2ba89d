import assert from "node:assert/strict";
import { test } from "node:test";
import { sendJson } from "../support/http-server.ts";
import { behavesLikeAFunction, functionRig } from "./rig.ts";

const rig = functionRig({
  name: "ingest-slack",
  urlName: "SLACK_API_URL",
  tokenName: "SLACK_BOT_TOKEN",
  signingSecret: `whsec_${btoa("a secret of thirty-two characters")}`,
});

behavesLikeAFunction(
  rig,
  { channel: "C0123" },
  { payload: { channel: "general" }, message: /^Payload is invalid at channel: .*conversation/ },
);

const message = (ts: string): object => ({ type: "message", user: "U1", text: "hello", ts });

/** Two pages, told apart by the cursor. */
function twoPages(): void {
  rig.answer = ({ path }, response) => {
    const cursor = new URL(path, "http://slack").searchParams.get("cursor");
    const messages =
      cursor === null
        ? [message("1767225603.000100"), message("1767225602.000100")]
        : [message("1767225601.000100")];
    const next = cursor === null ? "bmV4dDoy" : "";
    sendJson(response, 200, { ok: true, messages, response_metadata: { next_cursor: next } });
  };
}

test("reads all pages and tells where to go on", async () => {
  twoPages();

  const { status, body } = await rig.send({ channel: "C0123", oldest: "1767225600.000000" });

  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(body, {
    messages: 3,
    pages: 2,
    newest_ts: "1767225603.000100",
    next_cursor: null,
    stored: false,
    ids: ["C0123:1767225603.000100", "C0123:1767225602.000100", "C0123:1767225601.000100"],
  });
  assert.deepEqual(
    rig.upstream().map(({ method, path }) => `${method} ${path}`),
    [
      "GET /api/conversations.history?channel=C0123&limit=200&oldest=1767225600.000000",
      "GET /api/conversations.history?channel=C0123&limit=200&oldest=1767225600.000000&cursor=bmV4dDoy",
    ],
  );
  assert.deepEqual(await rig.firstReport(), {
    report: "progress",
    percent: 2,
    message: "2 messages",
  });
});

test("a repeated run finds the same", async () => {
  twoPages();

  const first = await rig.send({ channel: "C0123" });
  const second = await rig.send({ channel: "C0123" });

  assert.equal(first.body["messages"], 3);
  assert.deepEqual(second.body, first.body);
});

test("ends after its most pages, and names the rest", async () => {
  twoPages();

  const { body } = await rig.send({ channel: "C0123", max_pages: 1 });

  assert.deepEqual([body["messages"], body["next_cursor"]], [2, "bmV4dDoy"]);
});

test("a channel in which nothing was said keeps its newest", async () => {
  rig.answer = (_heard, response) => sendJson(response, 200, { ok: true, messages: [] });

  const { body } = await rig.send({ channel: "C0123", oldest: "1767225600.000000" });

  assert.deepEqual([body["messages"], body["newest_ts"]], [0, "1767225600.000000"]);
});

for (const [error, status, code, title] of [
  [
    "token_revoked",
    422,
    "JOB_REFUSED",
    /^Slack refused our .*token_revoked.*check SLACK_BOT_TOKEN$/,
  ],
  ["channel_not_found", 422, "JOB_REFUSED", /channel_not_found$/],
  ["ratelimited", 503, "RETRY_LATER", /busy/],
  ["internal_error", 500, "FUNCTION_FAILED", /internal_error$/],
] as const) {
  test(`Slack's ${error} with status 200 is answered ${status}`, async () => {
    rig.answer = (_heard, response) => sendJson(response, 200, { ok: false, error });

    const answer = await rig.send({ channel: "C0123" });

    assert.deepEqual([answer.status, answer.body["code"]], [status, code]);
    assert.match(String(answer.body["title"]), title);
  });
}

test("an answer of another shape is refused with its place", async () => {
  rig.answer = (_heard, response) => sendJson(response, 200, { ok: true, messages: [{ ts: 7 }] });

  const { status, body } = await rig.send({ channel: "C0123" });

  assert.equal(status, 422);
  assert.match(String(body["title"]), /^Slack answered in an unknown shape at messages\.0\.ts: /);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { sendJson } from "../support/http-server.ts";
import { behavesLikeAFunction, functionRig } from "./rig.ts";

const rig = functionRig({
  name: "daily-digest",
  urlName: "DIGEST_API_URL",
  tokenName: "DIGEST_API_KEY",
});
const DAY = { date: "2026-11-22" };

behavesLikeAFunction(rig, DAY, {
  payload: { date: "22.11.2026" },
  message: /^Payload is invalid at date: /,
});

const activity = (id: string, kind: string, hour: number): object => ({
  id,
  kind,
  title: `title ${id}`,
  at: `2026-11-22T${String(hour).padStart(2, "0")}:00:00Z`,
});

/** Two pages; the last of the first comes again on the second. */
function twoPages(): void {
  rig.answer = ({ method, path }, response) => {
    if (method === "POST") return sendJson(response, 201, { id: "digest-1" });
    return path.includes("cursor")
      ? sendJson(response, 200, { items: [activity("b", "mail", 9), activity("c", "call", 7)] })
      : sendJson(response, 200, {
          items: [activity("a", "mail", 8), activity("b", "mail", 9)],
          next_cursor: "p2",
        });
  };
}

test("reads the day's pages and hands over one digest", async () => {
  twoPages();

  const { status, body } = await rig.send({ ...DAY, recipients: ["ann@acme.test"] });

  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(body, { activities: 3, pages: 2, digest_id: "digest-1" });
  const [first, second, digest] = rig.upstream();
  assert.equal(first?.path, "/api/activities?date=2026-11-22&tenant_id=acme");
  assert.equal(second?.path, "/api/activities?date=2026-11-22&tenant_id=acme&cursor=p2");
  assert.equal(digest?.path, "/api/digests");
  assert.deepEqual(JSON.parse(digest?.body ?? ""), {
    tenant_id: "acme",
    date: "2026-11-22",
    recipients: ["ann@acme.test"],
    total: 3,
    by_kind: { mail: 2, call: 1 },
    highlights: [activity("b", "mail", 9), activity("a", "mail", 8), activity("c", "call", 7)],
  });
  assert.deepEqual(await rig.firstReport(), {
    report: "progress",
    percent: 10,
    message: "2 activities",
  });
});

test("a repeated run hands the digest over with the same key, so it is sent once", async () => {
  twoPages();

  await rig.send(DAY);
  await rig.send(DAY);

  const digests = rig.upstream().filter(({ method }) => method === "POST");
  assert.deepEqual(
    digests.map(({ headers }) => headers["idempotency-key"]),
    ["job_42", "job_42"],
  );
  assert.equal(digests[0]?.body, digests[1]?.body);
});

test("a day without activities has no digest", async () => {
  rig.answer = (_heard, response) => sendJson(response, 200, { items: [], next_cursor: null });

  const { body } = await rig.send(DAY);

  assert.deepEqual(body, { activities: 0, pages: 1, digest_id: null });
  assert.equal(rig.upstream().length, 1);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { sendJson } from "../support/http-server.ts";
import { behavesLikeAFunction, functionRig } from "./rig.ts";

const rig = functionRig({
  name: "ingest-microsoft",
  urlName: "MICROSOFT_GRAPH_URL",
  tokenName: "MICROSOFT_ACCESS_TOKEN",
  sinkPrefix: "INGEST",
});

behavesLikeAFunction(
  rig,
  {},
  { payload: { page_size: 0 }, message: /^Payload is invalid at page_size: / },
);

const DELTA = "/me/mailFolders/inbox/messages/delta";
const deltaLink = (): string => `${rig.upstreamUrl()}${DELTA}?$deltatoken=after`;

/** A folder of three messages and a removed one, in two pages; its later state is as it was. */
function twoPages(): void {
  rig.answer = ({ path }, response) => {
    if (path.includes("deltatoken=old")) return sendJson(response, 410, { error: {} });
    if (path.includes("deltatoken")) {
      return sendJson(response, 200, { value: [], "@odata.deltaLink": deltaLink() });
    }
    if (path.includes("skiptoken")) {
      const value = [{ id: "AAMk3" }, { id: "AAMk0", "@removed": { reason: "deleted" } }];
      return sendJson(response, 200, { value, "@odata.deltaLink": deltaLink() });
    }
    return sendJson(response, 200, {
      value: [{ id: "AAMk1", subject: "one" }, { id: "AAMk2" }],
      "@odata.nextLink": `${rig.upstreamUrl()}${DELTA}?$skiptoken=2`,
    });
  };
}

const ALL = { messages: 3, removed: 1, pages: 2, next_link: null, stored: true };

test("reads all pages, stores each, and tells from where changes are to be read", async () => {
  twoPages();

  const { status, body } = await rig.send({ page_size: 2 });

  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(body, { ...ALL, resync: false, delta_link: deltaLink() });
  const [first, second] = rig.upstream();
  assert.match(
    first?.path ?? "",
    /^\/api\/me\/mailFolders\/inbox\/messages\/delta\?%24select=id%2C/,
  );
  assert.equal(first?.headers["prefer"], 'odata.maxpagesize=2, IdType="ImmutableId"');
  assert.equal(second?.path, `/api${DELTA}?$skiptoken=2`);
  assert.deepEqual(
    rig.stored().map((one) => [one.path, JSON.parse(one.body)]),
    [
      {
        messages: [{ id: "AAMk1", subject: "one" }, { id: "AAMk2" }],
        removed: [],
      },
      { messages: [{ id: "AAMk3" }], removed: ["AAMk0"] },
    ].map((page) => [
      "/in?x=1",
      {
        job_id: "42",
        job_type: "ingest_microsoft",
        tenant_id: "acme",
        source: "microsoft",
        ...page,
      },
    ]),
  );
  assert.deepEqual(await rig.firstReport(), {
    report: "progress",
    percent: 2,
    message: "2 messages",
  });
});

test("a repeated run stores the same pages under the same keys, another job under others", async () => {
  twoPages();
  const keys = (): unknown[] => rig.stored().map(({ headers }) => headers["idempotency-key"]);

  const first = await rig.send({});
  const second = await rig.send({});
  await rig.send({}, { id: "43" });

  assert.deepEqual(second.body, first.body);
  const [one, two, ...others] = keys();
  assert.match(String(one), /^job_42_[0-9a-f]{24}$/);
  assert.notEqual(one, two);
  assert.deepEqual(others.slice(0, 2), [one, two]);
  assert.match(String(others[2]), /^job_43_/);
});

test("a later run reads what has changed, and stores nothing where nothing has", async () => {
  twoPages();

  const { body } = await rig.send({ delta_link: deltaLink() });

  assert.deepEqual([body["messages"], body["pages"], body["delta_link"]], [0, 1, deltaLink()]);
  assert.deepEqual(
    rig.upstream().map(({ path }) => path),
    [`/api${DELTA}?$deltatoken=after`],
  );
  assert.equal(rig.stored().length, 0);
});

test("a state that Graph has forgotten is read anew", async () => {
  twoPages();

  const { body } = await rig.send({ delta_link: `${rig.upstreamUrl()}${DELTA}?$deltatoken=old` });

  assert.deepEqual(body, { ...ALL, resync: true, delta_link: deltaLink() });
});

test("the token goes to Graph and nowhere else, whatever a payload or a page names", async () => {
  for (const link of [
    "https://elsewhere.test/api/me",
    rig.upstreamUrl().replace("/api", "/other"),
    rig.upstreamUrl().replace("/api", "/api/../other"),
    `${rig.upstreamUrl().replace("http://", "http://elsewhere.test@")}/me`,
  ]) {
    const { status, body } = await rig.send({ delta_link: link });

    assert.equal(status, 422, link);
    assert.match(String(body["title"]), /is not an address of Microsoft Graph/);
  }
  assert.equal(rig.upstream().length, 0);
});

test("another mailbox and folder, and the rest after the most pages", async () => {
  twoPages();

  const payload = { user_id: "ann@acme.test", folder: "sent/../x", max_pages: 1 };
  const { body } = await rig.send(payload);

  assert.match(
    rig.upstream()[0]?.path ?? "",
    /^\/api\/users\/ann%40acme\.test\/mailFolders\/sent%2F\.\.%2Fx\/messages\/delta\?/,
  );
  assert.deepEqual(
    [body["delta_link"], body["next_link"]],
    [null, `${rig.upstreamUrl()}${DELTA}?$skiptoken=2`],
  );
});

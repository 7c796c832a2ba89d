import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { clip, MAX_TEXT_BYTES, toJobError } from "../../src/core/job-error.ts";

function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

test("an error keeps its name, message, stack, code and causes", () => {
  const cause = Object.assign(new TypeError("inner"), { code: "E42" });
  const json = toJobError(new Error("outer", { cause }));

  assert.equal(json.name, "Error");
  assert.equal(json.message, "outer");
  assert.match(json.stack ?? "", /job-error\.test/);
  assert.equal(json.cause?.name, "TypeError");
  assert.equal(json.cause?.code, "E42");
});

test("the errors of an AggregateError are kept, the first five", () => {
  const many = Array.from({ length: 9 }, (_, at) => new Error(`e${at}`));

  const json = toJobError(new AggregateError(many, "several"));

  assert.deepEqual(
    json.errors?.map((error) => error.message),
    ["e0", "e1", "e2", "e3", "e4"],
  );
});

test("anything at all can be thrown", () => {
  const proxy = new Proxy(
    {},
    {
      get: () => {
        throw new Error("no");
      },
      has: () => {
        throw new Error("no");
      },
    },
  );
  const getters = {
    name: "Bad",
    get message(): string {
      throw new Error("no");
    },
  };
  const thrown = [
    undefined,
    null,
    0,
    10n,
    "text",
    Symbol("s"),
    () => 1,
    [1],
    {},
    { a: 1 },
    proxy,
    getters,
    Object.create(null),
  ];
  for (const value of thrown) {
    const json = toJobError(value);
    assert.equal(typeof json.message, "string");
    assert.doesNotThrow(() => JSON.stringify(json));
  }
  assert.equal(toJobError("text").message, "text");
  assert.equal(toJobError({ a: 1 }).message, '{"a":1}');
  assert.equal(toJobError(getters).name, "Bad");
});

test("causes that go in a circle come to an end", () => {
  const error = new Error("round");
  error.cause = error;

  assert.equal(JSON.stringify(toJobError(error)).match(/"round"/g)?.length, 5);
});

test("ten megabytes of message and stack are cut to 8 KiB each, quickly", () => {
  const error = new Error("é".repeat(5_000_000));
  error.stack = "x".repeat(10_000_000);

  const json = toJobError(error);

  assert.ok(bytesOf(json.message) <= MAX_TEXT_BYTES);
  assert.ok(bytesOf(json.message) > MAX_TEXT_BYTES - 4);
  assert.equal(json.stack?.length, MAX_TEXT_BYTES);
});

test("NUL and lone surrogates are replaced", () => {
  const json = toJobError(new Error("a\u0000b\ud800c"));

  assert.equal(json.message, "a\uFFFDb\uFFFDc");
});

test("a text is cut between characters", () => {
  assert.equal(clip("aé", 2), "a");
  assert.equal(clip("😀😀", 7), "😀");
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.nat({ max: 40 }), (text, limit) => {
      const cut = clip(text, limit);
      assert.ok(bytesOf(cut) <= limit);
      assert.equal(cut, new TextDecoder().decode(new TextEncoder().encode(cut)));
    }),
  );
});

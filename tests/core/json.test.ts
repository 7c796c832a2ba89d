import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodePayload, encodeResult, storableText } from "../../src/core/json.ts";

const LONE = "\ud800";

test("a payload is written as JSON; nothing becomes null", () => {
  assert.equal(encodePayload({ a: [1, "x", null] }), '{"a":[1,"x",null]}');
  assert.equal(encodePayload(undefined), "null");
});

test("a payload that the database could not keep is refused with the place of the fault", () => {
  const cyclic: Record<string, unknown> = { list: [1] };
  cyclic["self"] = { again: cyclic };
  const faults: [unknown, string][] = [
    [{ items: [{ email: "a" }, { email: "a\u0000b" }] }, "items[1].email"],
    [{ name: `x${LONE}` }, "name"],
    [{ "ke\u0000y": 1 }, "ke\u0000y"],
    [{ amount: 10n }, "amount"],
    [[1n], "[0]"],
    [cyclic, "self.again"],
    ["\u0000", ""],
  ];
  for (const [payload, path] of faults) {
    assert.throws(() => encodePayload(payload), { code: "INVALID_PAYLOAD", path });
  }
});

test("functions and symbols are no payloads", () => {
  assert.throws(() => encodePayload(() => 1), { code: "INVALID_PAYLOAD" });
  assert.throws(() => encodePayload(Symbol("x")), { code: "INVALID_PAYLOAD" });
});

test("a text that merely looks hostile is kept as it is", () => {
  const harmless = { path: "C:\\u0000", regex: "\\ud800", face: "😀" };

  assert.deepEqual(JSON.parse(encodePayload(harmless)), harmless);
});

test("a payload nested without end is refused, and does not overflow the stack", () => {
  let nested: unknown = "\u0000";
  for (let depth = 0; depth < 5_000; depth += 1) nested = [nested];

  assert.throws(() => encodePayload(nested), { code: "INVALID_PAYLOAD" });
});

test("a result keeps its work: characters that can't be stored are replaced", () => {
  assert.equal(encodeResult({ a: `x\u0000y${LONE}z` }), '{"a":"x\\ufffdy\\ufffdz"}');
  assert.equal(encodeResult("\\\\u0000"), '"\\\\\\\\u0000"');
  assert.equal(encodeResult(undefined), null);
  assert.equal(encodeResult(null), null);
  assert.equal(encodeResult(0), "0");
});

test("a result that JSON can't say is refused with its place", () => {
  assert.throws(() => encodeResult({ total: 1n }), { code: "INVALID_RESULT", path: "total" });
  assert.throws(() => encodeResult(() => 1), { code: "INVALID_RESULT" });
});

test("whatever the text, what is stored has no NUL and no lone surrogate", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const stored = storableText(`${text}\u0000${LONE}`);
      assert.equal(stored.includes("\u0000"), false);
      assert.equal(stored, stored.toString().replace(/\p{Surrogate}/gu, "?"));
    }),
  );
});

test("any result encodes to JSON without escapes that the database refuses", () => {
  fc.assert(
    fc.property(
      fc.object({ key: fc.string({ unit: "binary" }), values: [fc.string({ unit: "binary" })] }),
      (value) => {
        const text = encodeResult(value) ?? "null";
        const back = JSON.stringify(JSON.parse(text));
        assert.equal(/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/.test(back), false);
      },
    ),
  );
});

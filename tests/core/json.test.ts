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

test("members that somebody gave to an error or a map don't make it one that JSON can say", () => {
  const failure = Object.assign(new Error("no such file"), { code: "ENOENT" });
  const labelled = Object.assign(new Map([["a", 1]]), { label: "x" });
  for (const [value, path] of [
    [{ failure }, "failure"],
    [[labelled], "[0]"],
  ] as const) {
    assert.throws(() => encodePayload(value), { code: "INVALID_PAYLOAD", path });
    assert.throws(() => encodeResult(value), { code: "INVALID_RESULT", path });
  }
  const told = Object.assign(failure, { toJSON: () => ({ told: true }) });
  assert.equal(encodePayload(told), '{"told":true}');
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

test("what JSON would lose without a word is refused with its place, in payloads and results", () => {
  class Empty {}
  class Secret {
    #hidden = 1;
    get hidden(): number {
      return this.#hidden;
    }
  }
  const holes: unknown[] = [1];
  holes[2] = 3;
  const losses: [unknown, string, RegExp][] = [
    [Number.NaN, "", /NaN/],
    [{ rate: Number.POSITIVE_INFINITY }, "rate", /Infinity/],
    [{ list: [1, -Infinity] }, "list[1]", /-Infinity/],
    [{ at: new Date(Number.NaN) }, "at", /invalid Date/],
    [{ tags: new Set(["a"]) }, "tags", /a Set .*\[\.\.\.set\]/],
    [{ deep: [{ map: new Map([["a", 1]]) }] }, "deep[0].map", /a Map .*Object\.fromEntries/],
    [{ file: new Uint8Array([1, 2]) }, "file", /an? Uint8Array .*base64/],
    [{ file: new ArrayBuffer(2) }, "file", /an ArrayBuffer/],
    [{ what: /x/ }, "what", /a RegExp/],
    [{ what: new Error("x") }, "what", /an Error/],
    [{ what: Promise.resolve(1) }, "what", /a Promise/],
    [{ what: new Empty() }, "what", /an Empty/],
    [{ what: new Secret() }, "what", /a Secret/],
    [{ call: () => 1 }, "call", /function/],
    [{ sign: Symbol("x") }, "sign", /symbol/],
    [[1, undefined], "[1]", /undefined/],
    [{ holes }, "holes[1]", /undefined/],
    [{ inner: { toJSON: () => ({ n: Number.NaN }) } }, "inner.n", /NaN/],
  ];
  for (const [value, path, message] of losses) {
    assert.throws(() => encodePayload(value), { code: "INVALID_PAYLOAD", path, message });
    assert.throws(() => encodeResult(value), { code: "INVALID_RESULT", path, message });
  }
});

test("what JSON keeps is kept: dates as texts, classes by their fields, members that are undefined left out", () => {
  class Point {
    x = 1;
    y = undefined;
  }
  const value = {
    at: new Date(0),
    url: new URL("https://example.com/"),
    point: new Point(),
    none: undefined,
    bare: Object.assign(Object.create(null), { a: 1 }),
    boxed: [new Number(1), new String("s"), new Boolean(false)],
    empty: [{}, [], "", 0, -0, false, null],
    buffer: Buffer.from("a"),
  };

  assert.equal(encodePayload(value), JSON.stringify(value));
});

test("whatever comes back from JSON as it went in is accepted", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
      assert.equal(encodePayload(value), JSON.stringify(value));
    }),
  );
});

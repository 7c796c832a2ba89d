import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { findInexact, parseExact } from "../../src/core/exact-json.ts";

test("numbers that JavaScript would change are found with their place", () => {
  const text = String.raw`{"id": 9007199254740993, "a\"b": [1, {"": -9223372036854775807}, 1.5], "fine": 9007199254740994,
    "text": "9007199254740993", "\\": [[12345678901234567.5]], "huge": 1${"0".repeat(400)}, "third": 0.33333333333333333333,
    "tiny": 0.${"0".repeat(400)}1, "zero": 0.00000000000000000000, "exact": 1152921504606846976}`;

  assert.deepEqual(
    findInexact(text).map(({ path }) => path),
    [["id"], ['a"b', 1, ""], ["\\", 0, 0], ["huge"], ["tiny"]],
  );
  assert.deepEqual(findInexact("9007199254740993"), [{ path: [], text: "9007199254740993" }]);
});

test("numbers that JavaScript writes come back to it as they were", () => {
  const large = fc
    .double({ noNaN: true, noDefaultInfinity: true })
    .map((number) => (Math.abs(number) < 2 ** 53 ? number * 2 ** 60 : number))
    .filter((number) => Number.isFinite(number) && !Object.is(number, -0));
  const check = (number: number): void => {
    // As Postgres writes it: a whole number with all of its digits.
    const text = Number.isInteger(number) ? written(number) : String(number);
    assert.deepEqual(findInexact(`{"n": ${text}}`), [], text);
    assert.deepEqual(JSON.parse(text), number);
  };
  for (const number of [1e23, 2 ** 63, -(2 ** 63), 123456789012345680000, Number.MAX_VALUE]) {
    check(number);
  }
  fc.assert(fc.property(large, check), { numRuns: 2_000 });
  assert.equal(findInexact("9223372036854775807").length, 1, "the neighbour of 2^63");
});

/** All digits of what JavaScript writes for a whole number. */
function written(number: number): string {
  const [sign = "", whole = "", , fraction = "", exponent = "0"] =
    /^(-?)(\d+)(\.(\d+))?(?:e\+(\d+))?$/.exec(String(number))?.slice(1) ?? [];
  return `${sign}${whole}${fraction.padEnd(Number(exponent), "0")}`;
}

test("an exact text is parsed, another refused", () => {
  const fault = ({ text }: { text: string }): Error => new Error(`no room for ${text}`);

  assert.deepEqual(parseExact('{"n": 1234567890123456}', fault), { n: 1234567890123456 });
  assert.throws(() => parseExact("[1, 9007199254740993]", fault), /no room for 9007199254740993/);
});

type Value = bigint | string | null | readonly Value[] | { readonly [key: string]: Value };

/** The oracle: writes JSON and finds the numbers on the way, by values and not by their text. */
function write(value: Value, path: readonly (string | number)[], wrong: unknown[]): string {
  if (typeof value === "bigint") {
    const number = Number(value);
    if (BigInt(number) !== value && written(number) !== String(value)) wrong.push(path);
    return String(value);
  }
  if (typeof value === "string" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) {
    return `[${value.map((one: Value, at) => write(one, [...path, at], wrong)).join(", ")}]`;
  }
  const members = Object.entries(value as { [key: string]: Value });
  return `{${members.map(([key, one]) => `${JSON.stringify(key)}:${write(one, [...path, key], wrong)}`).join(",")}}`;
}

test("all of them are found, and nothing else, wherever they are", () => {
  const { tree } = fc.letrec<{ tree: Value }>((tie) => ({
    tree: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
      fc.bigInt({ min: 2n ** 53n - 8n, max: 2n ** 53n + 8n }),
      fc.string({ unit: "binary" }),
      fc.constantFrom('"', "\\", '\\"', "{[,:", "9007199254740993", null),
      fc.array(tie("tree"), { maxLength: 4 }),
      fc.dictionary(fc.string({ unit: "binary" }), tie("tree"), {
        maxKeys: 4,
        noNullPrototype: true,
      }),
    ),
  }));
  fc.assert(
    fc.property(tree, (value) => {
      const wrong: unknown[] = [];
      const text = write(value, [], wrong);
      assert.deepEqual(
        findInexact(text).map(({ path }) => path),
        wrong,
      );
    }),
    { numRuns: 2_000 },
  );
});

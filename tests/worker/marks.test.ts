import assert from "node:assert/strict";
import { test } from "node:test";
import { Marks } from "../../src/worker/marks.ts";

const place = { q: 1, at: "2026-11-22T10:00:00Z" } as { readonly fair?: number };

test("in one tenant's line all calls go on from the same place", () => {
  const marks = new Marks();
  assert.deepEqual([marks.get(0), marks.get(1), marks.hasPlace], [null, null, false]);

  marks.set(1, place);

  assert.deepEqual([marks.get(0), marks.get(1)], [JSON.stringify(place), JSON.stringify(place)]);
  assert.equal(marks.hasPlace, true);
});

test("a wish to look at everything names the place to go on from if it is not granted", () => {
  const marks = new Marks();
  assert.equal(marks.sweeping, null);
  marks.set(0, place);
  assert.equal(marks.sweeping, '{"q":1,"at":"2026-11-22T10:00:00Z","sweep":true}');
});

test("where tenants take turns each call goes round by itself", () => {
  const marks = new Marks();
  marks.set(0, place);

  marks.set(0, { fair: 7 });
  assert.deepEqual([marks.get(0), marks.get(1), marks.hasPlace], ['{"fair":7}', null, false]);
  marks.set(1, { fair: 90 });
  assert.deepEqual([marks.get(0), marks.get(1)], ['{"fair":7}', '{"fair":90}']);
});

test("a claim without a mark, and a new start, forget all", () => {
  const marks = new Marks();
  marks.set(0, { fair: 7 });
  marks.set(0, null);
  assert.deepEqual([marks.get(0), marks.get(1)], [null, null]);

  marks.set(0, place);
  marks.clear();
  assert.deepEqual([marks.get(0), marks.hasPlace], [null, false]);
});

test("the mark of a full look is sent as it is: there is no place from which to look back", () => {
  const marks = new Marks();
  marks.set(0, {});

  assert.deepEqual([marks.get(0), marks.get(1), marks.hasPlace], ["{}", "{}", false]);
});

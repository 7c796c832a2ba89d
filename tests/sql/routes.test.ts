/** Where jobs are sent: what makes no sense is refused when it is said, and not found out by a run. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { refusal } from "./rig.ts";

describeOnEachServer("routes", (context) => {
  const set = (headers: unknown, url = "https://hook.test/x"): PromiseLike<unknown> =>
    context.db.sql`
      select public.set_job_route('bill', p_url => ${url}, p_headers => ${context.db.sql.json(headers as never)})`;

  for (const headers of [{ "x-key": null }, { a: "b", "x-key": 5 }, { "x-key": {} }, ["x-key"]]) {
    it(`have headers that can be read, not ${JSON.stringify(headers)}`, async () => {
      assert.equal((await refusal(set(headers))).code, "23514");
    });
  }

  it("have no headers whose variable has no name", async () => {
    assert.equal((await refusal(set({ "x-key": { env: 5 } }))).code, "23514");
    await set({ "x-key": { env: "BILLING_KEY" }, "x-plain": "yes" });
    await set({});
  });

  it("have no credentials in their address, which is quoted in errors", async () => {
    assert.equal((await refusal(set({}, "https://me:sesame@hook.test/"))).code, "23514");
    await set({}, "https://hook.test/?mail=me@hook.test");
  });
});

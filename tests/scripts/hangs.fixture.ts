import { it } from "node:test";
import { eventually } from "../support/eventually.ts";

it("hangs", async () => {
  await eventually(() => Date.now() < 0, { timeoutMs: 60_000 });
});
it("comes after it", () => undefined);

import { test } from "node:test";
import { SilenceWatch } from "../../src/db/silence.ts";
import { eventually } from "../support/eventually.ts";

test("whoever asks after silent connections leaves when the last of them answers while it asks", async () => {
  let asked = 0;
  let left = 0;
  const silent = { session: { pid: "1", since: "2" }, silentMs: 1_000, end: () => undefined };
  const asker = {
    isLost: false,
    async run() {
      asked += 1;
      watch.remove(silent);
      return [{ answer: "[1]" }];
    },
    end() {
      left += 1;
    },
  };
  const watch = new SilenceWatch(async () => asker, 10);
  watch.add(silent);
  await eventually(() => asked === 1);
  await eventually(() => left === 1);
  watch.close();
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { openEar } from "../../src/db/open-ear.ts";

test("listening that is given up while its connection is made lets go of that connection", async () => {
  const over = new AbortController();
  let isEnded = false;
  let hear: (channel: string, payload: string) => void = () => undefined;
  const connection = {
    session: undefined,
    silentMs: 0,
    host: "there",
    isLost: false,
    run: async () => [],
    takeWarning: () => false,
    onLoss: () => () => undefined,
    end: () => {
      isEnded = true;
    },
  };
  const opening = openEar({
    async open(onNotify) {
      over.abort();
      hear = onNotify;
      return connection;
    },
    notify: async (channel, payload) => hear(channel, payload),
    channels: ["there"],
    onPayload: () => undefined,
    signal: over.signal,
  });

  await assert.rejects(opening);
  assert.equal(isEnded, true);
});

import assert from "node:assert/strict";
import { it } from "node:test";
import postgres from "postgres";
import { TransactionClients } from "../../src/db/transaction-clients.ts";
import { describeWithDatabase } from "../support/suite.ts";

describeWithDatabase("transactions on connections of their own", (context) => {
  /** Clients whose `closed` tells the loss of a connection whenever the test wants. */
  function open(): { clients: TransactionClients; closed: () => void } {
    let onClose: () => void = () => undefined;
    const clients = new TransactionClients(1, "here", (told) => {
      onClose = told;
      return postgres(context.db.url, { max: 1, onnotice: () => undefined });
    });
    return { clients, closed: () => onClose() };
  }

  it("begin well when the idle connection of before closes only now", async () => {
    const { clients, closed } = open();
    await clients.run((tx) => tx.query("select 1"));

    const running = clients.run((tx) => tx.query("select 2::text as n"));
    closed();

    assert.deepEqual((await running)[0]?.["n"], "2");
    await clients.close();
  });

  it("are given up soon after their connection closed, even when nothing more is asked of it", async () => {
    const { clients, closed } = open();

    const running = clients.run(async (tx) => {
      await tx.query("select 1");
      closed();
      return "not committed";
    });

    await assert.rejects(running, { code: "DATABASE_UNREACHABLE" });
    assert.equal(await clients.run(async (tx) => (await tx.query("select 1")).length), 1);
    await clients.close();
  });
});

/** Tests that end in every way a test can end, for the test of the runner. */
import { before, describe, it } from "node:test";

it("passes", () => {});

it("fails", () => {
  throw new Error("on purpose");
});

it("is skipped", { skip: "needs Debian package one" }, () => {});

describe("a skipped suite", { skip: "needs Debian package two" }, () => {
  it("does not run", () => {});
});

describe("a suite whose hook breaks", () => {
  before(() => {
    throw new Error("on purpose");
  });

  it("is cancelled", () => {});
});

describe("a suite", () => {
  it("passes too", () => {});

  it("fails too", () => {
    throw new Error("on purpose");
  });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { AnswersDue } from "../../src/db/answers-due.ts";

const startup = message("", "user\0me\0\0");
const ready = message("Z", "I");

function message(type: string, body: string): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length + 4);
  return Buffer.concat([Buffer.from(type), head, Buffer.from(body)]);
}

function connected(): AnswersDue {
  const answers = new AnswersDue();
  answers.sent(startup);
  answers.came(Buffer.concat([message("R", "\0\0\0\0"), ready]));
  return answers;
}

test("a query is due until the server is ready for the next, however the bytes are cut", () => {
  const answers = connected();
  assert.equal(answers.since, undefined);
  for (const byte of message("Q", "select 'Z'\0")) answers.sent(Uint8Array.of(byte));
  assert.notEqual(answers.since, undefined);
  // A row that looks like the end of an answer is none.
  for (const byte of message("D", "Z\0\0\0\x05I")) answers.came(Uint8Array.of(byte));
  assert.notEqual(answers.since, undefined);
  for (const byte of ready) answers.came(Uint8Array.of(byte));
  assert.equal(answers.since, undefined);
});

test("of several that are under way each is due", () => {
  const answers = connected();
  answers.sent(Buffer.concat([message("P", "a\0"), message("S", ""), message("Q", "b\0")]));
  answers.came(ready);
  assert.notEqual(answers.since, undefined);
  answers.came(ready);
  assert.equal(answers.since, undefined);
});

test("what is flushed is due until it is answered, whatever else comes", () => {
  const answers = connected();
  answers.sent(message("Q", "select 1\0"));
  answers.sent(Buffer.concat([message("P", "a\0"), message("H", "")]));
  answers.came(Buffer.concat([message("C", "SELECT 1\0"), ready, message("N", "\0")]));
  assert.notEqual(answers.since, undefined);
  answers.came(message("1", ""));
  assert.equal(answers.since, undefined);
});

test("an answer that is none leaves the query due", () => {
  const answers = connected();
  answers.sent(message("Q", "select 1\0"));
  answers.came(Buffer.from("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
  answers.came(ready);
  assert.notEqual(answers.since, undefined);
});

import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";

/** A file of JSON lines that says what happened up to the moment its process was killed. */
export interface Journal {
  write(entry: object): void;
  close(): void;
}

/** Opens a journal to be continued. Each line is handed to the kernel before `write` returns, so a kill -9 loses none. */
export function openJournal(path: string): Journal {
  const file = openSync(path, "a");
  return {
    write: (entry) => void writeSync(file, `${JSON.stringify(entry)}\n`),
    close: () => closeSync(file),
  };
}

/** The entries of a journal; none when there is no such file. */
export function readJournal<Entry>(path: string): Entry[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n");
  // The last line ends with a line feed.
  return lines.slice(0, -1).map((line) => JSON.parse(line) as Entry);
}

/** A bug planted on purpose: text edits of the sources, and the tests that must notice. */
export interface Mutant {
  /** Short, in kebab-case. */
  readonly name: string;
  /** What is wrong with it, in words. */
  readonly bug: string;
  readonly edits: readonly Edit[];
  /** Test files that must notice, the likeliest first: the next is run only when the one before did not. */
  readonly tests: readonly string[];
}

export interface Edit {
  readonly file: string;
  /** Occurs in the file exactly once, unless `every` is set. */
  readonly from: string;
  readonly to: string;
  /** Replaces every occurrence; there must be at least one. */
  readonly every?: boolean;
}

/** A migration by the words of its name. */
export function migration(words: string): string {
  return `supabase/migrations/${words}.sql`;
}

export const PROPERTY = "tests/property/property.test.ts";

export function race(name: string): string {
  return `tests/races/${name}.test.ts`;
}

export function sqlTest(name: string): string {
  return `tests/sql/${name}.test.ts`;
}

/** One edit in one file. */
export function plant(
  name: string,
  bug: string,
  file: string,
  [from, to]: readonly [from: string, to: string],
  tests: readonly string[],
): Mutant {
  return { name, bug, edits: [{ file, from, to }], tests };
}

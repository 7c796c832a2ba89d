/** A number in a JSON text that JavaScript cannot hold. */
export interface InexactNumber {
  /** Keys and indices that lead to it. */
  readonly path: readonly (string | number)[];
  /** As it is written. */
  readonly text: string;
}

/** Every whole number up to 15 digits is exact, and Postgres writes numbers without exponents. */
const LONG_NUMBER = /\d{16}/;
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

/**
 * The numbers of a valid JSON text that `JSON.parse` would change: whole ones beyond 2^53 that it would write differently, and those that would become
 * infinite or zero. Fractions are rounded by everybody who reads JSON, and don't count. Most texts have no long number, and are not read.
 */
export function findInexact(text: string): InexactNumber[] {
  return LONG_NUMBER.test(text) ? scan(text) : [];
}

/** Parses a JSON text; throws what `fault` makes of the first number in it that would be changed. */
export function parseExact(text: string, fault: (number: InexactNumber) => Error): unknown {
  const [first] = findInexact(text);
  if (first) throw fault(first);
  return JSON.parse(text);
}

interface Level {
  /** The index of an array's element; undefined in an object. */
  index: number | undefined;
  /** Where the key of an object's member is written. */
  key: readonly [start: number, end: number];
}

function scan(text: string): InexactNumber[] {
  const found: InexactNumber[] = [];
  const levels: Level[] = [];
  let at = 0;
  let lastText: readonly [number, number] = [0, 0];
  while (at < text.length) {
    const sign = text.charCodeAt(at);
    const level = levels.at(-1);
    if (sign === QUOTE) {
      const end = endOfText(text, at);
      lastText = [at, end];
      at = end;
      continue;
    }
    if (sign === MINUS || (sign >= ZERO && sign <= NINE)) {
      NUMBER.lastIndex = at;
      const [number = ""] = NUMBER.exec(text) ?? [];
      if (number.length >= 16 && isInexact(number)) {
        found.push({ path: levels.map((one) => keyOf(one, text)), text: number });
      }
      at += Math.max(number.length, 1);
      continue;
    }
    if (sign === OPEN_OBJECT) levels.push({ index: undefined, key: [0, 0] });
    else if (sign === OPEN_ARRAY) levels.push({ index: 0, key: [0, 0] });
    else if (sign === CLOSE_OBJECT || sign === CLOSE_ARRAY) levels.pop();
    else if (sign === COLON && level) level.key = lastText;
    else if (sign === COMMA && level?.index !== undefined) level.index += 1;
    at += 1;
  }
  return found;
}

const QUOTE = 34;
const COMMA = 44;
const MINUS = 45;
const ZERO = 48;
const NINE = 57;
const COLON = 58;
const OPEN_ARRAY = 91;
const BACKSLASH = 92;
const CLOSE_ARRAY = 93;
const OPEN_OBJECT = 123;
const CLOSE_OBJECT = 125;

/** The place behind the quote that ends a text. */
function endOfText(text: string, start: number): number {
  let end = text.indexOf('"', start + 1);
  while (end >= 0 && isEscaped(text, end)) end = text.indexOf('"', end + 1);
  return end < 0 ? text.length : end + 1;
}

function isEscaped(text: string, at: number): boolean {
  let first = at;
  while (text.charCodeAt(first - 1) === BACKSLASH) first -= 1;
  return (at - first) % 2 === 1;
}

function keyOf({ index, key: [start, end] }: Level, text: string): string | number {
  return index ?? (JSON.parse(text.slice(start, end)) as string);
}

function isInexact(number: string): boolean {
  const value = Number(number);
  if (!Number.isFinite(value)) return true;
  if (value === 0) return /[1-9]/.test(number.replace(/[eE].*$/, ""));
  if (/[eE]/.test(number) || Math.abs(value) <= Number.MAX_SAFE_INTEGER) return false;
  if (/\.0*[1-9]/.test(number)) return true;
  const whole = BigInt(number.replace(/\..*$/, ""));
  return whole !== BigInt(value) && whole !== writtenOut(value);
}

/**
 * A large whole number as JavaScript writes it, with all its digits: 1e23 is 10^23, although the double is a little less. Postgres keeps
 * what was written, so what a program in JavaScript has sent comes back as it was.
 */
function writtenOut(value: number): bigint {
  const [digits = "", exponent = "0"] = String(value).split("e");
  const [whole = "", fraction = ""] = digits.split(".");
  return BigInt(whole + fraction.padEnd(Number(exponent), "0"));
}

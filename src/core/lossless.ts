/** What is wrong with a value, and where. */
export interface Fault {
  readonly path: string;
  readonly reason: string;
}

/**
 * The first thing in a value that JSON would lose without a word: NaN, infinities, invalid dates, holes and undefined in arrays, functions,
 * symbols, errors, maps, sets, typed arrays, and objects of classes that would become `{}`. Members of an object that are undefined are left
 * out, as everywhere. The value is one that `JSON.stringify` takes.
 */
export function findLoss(value: unknown, path = ""): Fault | undefined {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value)
        ? undefined
        : { path, reason: `${value} cannot be written as JSON` };
    case "function":
    case "symbol":
      return { path, reason: `a ${typeof value} cannot be written as JSON` };
    case "object":
      return value === null ? undefined : lossOfObject(value, path);
    default:
      return undefined;
  }
}

function lossOfObject(value: object, path: string): Fault | undefined {
  if (Array.isArray(value))
    return "toJSON" in value ? lossOfOther(value, path) : lossOfArray(value, path);
  // Nearly all objects: nothing else needs to be known of them.
  if (Object.getPrototypeOf(value) === Object.prototype && !("toJSON" in value)) {
    return lossOfMembers(value, Object.keys(value), path);
  }
  return lossOfOther(value, path);
}

function lossOfOther(value: object, path: string): Fault | undefined {
  if ("toJSON" in value && typeof value.toJSON === "function") {
    if (value instanceof Date && Number.isNaN(value.getTime())) {
      return { path, reason: "an invalid Date cannot be written as JSON" };
    }
    return value instanceof Date ? undefined : findLoss(value.toJSON(""), path);
  }
  if (Array.isArray(value)) return lossOfArray(value, path);
  if (value instanceof Number) return findLoss(value.valueOf(), path);
  if (value instanceof String || value instanceof Boolean) return undefined;
  const keys = Object.keys(value);
  if (hidesMost(value) || (keys.length === 0 && !isPlain(value))) {
    return { path, reason: `${nameOf(value)} cannot be written as JSON; ${adviceFor(value)}` };
  }
  return lossOfMembers(value, keys, path);
}

function lossOfMembers(value: object, keys: readonly string[], path: string): Fault | undefined {
  for (const key of keys) {
    const member = (value as Record<string, unknown>)[key];
    // Most members are texts and numbers: nothing to look for.
    if (typeof member === "string" || Number.isFinite(member)) continue;
    const fault = findLoss(member, path === "" ? key : `${path}.${key}`);
    if (fault) return fault;
  }
  return undefined;
}

function lossOfArray(values: readonly unknown[], path: string): Fault | undefined {
  for (let at = 0; at < values.length; at += 1) {
    const value = values[at];
    if (typeof value === "string" || Number.isFinite(value)) continue;
    const place = `${path}[${at}]`;
    if (value === undefined)
      return { path: place, reason: "undefined in an array would become null" };
    const fault = findLoss(value, place);
    if (fault) return fault;
  }
  return undefined;
}

/** What it is about is none of its members, whatever those that somebody gave it: the message of an error for example. */
function hidesMost(value: object): boolean {
  return (
    ArrayBuffer.isView(value) ||
    value instanceof Error ||
    value instanceof Map ||
    value instanceof Set
  );
}

/** Also of another realm, whose Object is not ours. */
function isPlain(value: object): boolean {
  const parent: unknown = Object.getPrototypeOf(value);
  return parent === null || Object.getPrototypeOf(parent) === null;
}

function nameOf(value: object): string {
  const name = value.constructor?.name || "Object";
  return `${/^[AEIOU]/.test(name) ? "an" : "a"} ${name}`;
}

function adviceFor(value: object): string {
  if (value instanceof Map) return "pass Object.fromEntries(map) or [...map]";
  if (value instanceof Set) return "pass [...set]";
  if (value instanceof Error) return "pass its name and message, or give it a toJSON";
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer)
    return "pass text, in base64 for example";
  return "give it a toJSON, or pass a plain object";
}

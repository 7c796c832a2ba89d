/**
 * Marks of what this library makes, the same in all copies of it: an application may load the package twice, and then a class of the one
 * copy is unknown to the other.
 */
export const OUTCOME: unique symbol = Symbol.for("millrace.outcome");
export const ERROR: unique symbol = Symbol.for("millrace.error");

/** Whether a value has such a mark. Never throws, whatever the value does when it is looked at. */
export function hasBrand(value: unknown, brand: symbol): boolean {
  if (typeof value !== "object" || value === null) return false;
  try {
    return (value as Record<symbol, unknown>)[brand] === true;
  } catch {
    return false;
  }
}

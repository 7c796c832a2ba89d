/** What Supabase's runtime has and no standard knows; `deno serve` has the first of them. */
interface EdgeGlobals {
  readonly Deno: { readonly env: { get(name: string): string | undefined } };
  readonly EdgeRuntime?: { waitUntil(work: Promise<unknown>): void };
}

const globals = globalThis as unknown as EdgeGlobals;

/** A variable of the environment; undefined when it is not set, or to nothing. */
export function environment(name: string): string | undefined {
  return globals.Deno.env.get(name) || undefined;
}

/** Keeps the isolate alive while this work goes on, where an isolate can end. */
export function waitUntil(work: Promise<unknown>): void {
  globals.EdgeRuntime?.waitUntil(work);
}

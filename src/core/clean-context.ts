/** Calls a function with one argument, and answers what it returns. */
type Call = <A, R>(run: (argument: A) => R, argument: A) => R;

interface Resource {
  runInAsyncScope<A, R>(run: (argument: A) => R, self?: undefined, argument?: A): R;
}

interface Runtime {
  readonly AsyncContext?: { readonly Snapshot?: new () => { run: Call } };
  readonly process?: {
    getBuiltinModule?(name: string): { AsyncResource?: new (type: string) => Resource } | undefined;
  };
}

/**
 * Calls it in the async context in which this module was loaded: what a handler, a listener or whoever started the worker keeps in an
 * AsyncLocalStorage is not seen by the next handler. Where a runtime has no such context, a plain call. Costs some 40 ns.
 */
export const callClean: Call = makeCall(globalThis as Runtime);

function makeCall({ AsyncContext, process }: Runtime): Call {
  try {
    if (AsyncContext?.Snapshot) {
      const snapshot = new AsyncContext.Snapshot();
      return (run, argument) => snapshot.run(run, argument);
    }
    // Not imported, so that runtimes without it can load this library.
    const { AsyncResource } = process?.getBuiltinModule?.("node:async_hooks") ?? {};
    if (AsyncResource) {
      const root = new AsyncResource("millrace");
      // One for each call: what a handler enters with stays in the one it was called in.
      const make = (): Resource => new AsyncResource("millrace.handler");
      return (run, argument) =>
        root.runInAsyncScope(make).runInAsyncScope(run, undefined, argument);
    }
  } catch {
    // A runtime that only seems to have it.
  }
  return (run, argument) => run(argument);
}

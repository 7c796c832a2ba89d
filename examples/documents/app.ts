/**
 * The application that `npm start` runs: it measures every Markdown file of this repository, then sums up.
 *
 * An application module exports `handlers`; `queues` and `seed` are optional. See docs/cli.md.
 */
export { handlers } from "./handlers.ts";
export { seed } from "./seed.ts";

/** So many jobs run at a time. Few, so that one can see the order in which they start. */
export const queues = { "*": 3 };

import { setTimeout as delay } from "node:timers/promises";
import {
  createQueue,
  defineJob,
  discard,
  type Enqueuer,
  fail,
  type HandlerContext,
  type Implementation,
  implement,
  implementBatch,
  type JsonValue,
  type Queue,
  snooze,
} from "../../src/index.ts";
import { plannedFailure, type Sighting, sight, signatureOf } from "../support/identity.ts";
import type { Journal } from "../support/journal.ts";
import { BATCH, BULK, CHILD, idlePlan, MAX_RETRIES, type Plan, SINGLE, SLOTS } from "./plan.ts";

export interface HandlerTools {
  readonly sql: unknown;
  /** The worker's name in the database. */
  readonly worker: string;
  /** What handlers saw. */
  readonly seen: Journal;
  /** Which jobs handlers enqueued. */
  readonly told: Journal;
  /** When they blocked their process. */
  readonly blocks: Journal;
}

type Given = Pick<
  HandlerContext<Plan>,
  "input" | "id" | "type" | "tenantId" | "attempt" | "claim" | "note" | "progress"
>;

/** Handlers of all kinds, which do what their job's plan says and sign all that they leave. */
export function makeHandlers(tools: HandlerTools): Implementation[] {
  const queue = createQueue({ sql: tools.sql });
  const handle = (context: HandlerContext<Plan>): Promise<never> =>
    perform(context, tools, queue) as Promise<never>;
  return [
    ...SINGLE.map((job) => implement(job, handle)),
    implement(CHILD, handle),
    implementBatch(BATCH, async ({ jobs }) => {
      const sightings = jobs.map((job) => begin(job, tools));
      await delay(Math.max(...jobs.map(({ input }) => input.ms)));
      return jobs.map(({ input }, n) => finish(input, sightings[n] as Sighting) as never);
    }),
    implementBatch(
      BULK,
      ({ jobs }) => jobs.map((job) => ({ ...signatureOf(begin(job, tools)) }) as never),
      { maxSize: 200 },
    ),
  ];
}

/** Ends well once as many of its kind run as the worker has slots: so none of them is taken by something that never ends. */
export function makeLastHandler(type: string, tools: HandlerTools): Implementation {
  let running = 0;
  return implement(defineJob<Plan>(type), async (context) => {
    begin(context, tools);
    running += 1;
    const patience = Date.now() + LAST_MS;
    while (running < SLOTS && Date.now() < patience) await delay(20);
    return { together: running } as never;
  });
}

const LAST_MS = 20_000;

/** Writes down which job it was given. */
function begin(
  { input, id, type, tenantId, attempt, claim }: Given,
  tools: HandlerTools,
): Sighting {
  const { worker, seen } = tools;
  const told = { id, type, tenantId, attempt: attempt.number, lease: claim.leaseId, worker };
  const sighting = sight(input, told);
  seen.write(sighting);
  return sighting;
}

async function perform(context: HandlerContext<Plan>, tools: HandlerTools, queue: Queue) {
  const { input, commitWith, note, progress } = context;
  const sighting = begin(context, tools);
  const signature: JsonValue = { ...signatureOf(sighting) };
  note(signature);
  if (input.reports) progress(50, input.who.nonce, signature);
  await delay(input.ms);
  if (sighting.attempt === 1 && input.blockMs > 0) {
    const from = Date.now();
    block(input.blockMs);
    tools.blocks.write({ from, to: Date.now() });
  }
  if (input.end !== "commit" || sighting.attempt <= input.failures) {
    if (input.end === "return") await enqueueChildren(queue, input, tools);
    if (sighting.attempt <= input.failures) throw new Error(plannedFailure(sighting));
    return finish(input, sighting);
  }
  await commitWith(async (tx) => {
    await tx.query("insert into public.ledger (job_id, nonce, attempt) values ($1, $2, $3)", [
      context.id,
      input.who.nonce,
      sighting.attempt,
    ]);
    await enqueueChildren(queue.with(tx), input);
    return signature;
  });
  return undefined;
}

function finish(plan: Plan, sighting: Sighting): unknown {
  // Of a batch one alone may fail, so it is returned; singles throw it.
  if (sighting.attempt <= plan.failures) return fail(new Error(plannedFailure(sighting)));
  if (plan.end === "discard") return discard(plannedFailure(sighting));
  if (plan.end === "snooze" && Math.random() < 0.7) return snooze("200ms");
  return signatureOf(sighting);
}

/** Those of an attempt that is made again are the same jobs. */
async function enqueueChildren(
  to: Enqueuer,
  { children, who }: Plan,
  tools?: HandlerTools,
): Promise<void> {
  for (let n = 0; n < children; n += 1) {
    const nonce = `${who.nonce}/${n}`;
    const { tenant } = who;
    const made = await to.enqueue(CHILD, idlePlan({ nonce, type: CHILD.type, tenant }), {
      idempotencyKey: nonce,
      maxRetries: MAX_RETRIES,
      ...(tenant !== null && { tenantId: tenant }),
    });
    tools?.told.write({ told: [[made.id, nonce]], at: Date.now() });
  }
}

/** Nothing of this process moves meanwhile, its heartbeats included. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

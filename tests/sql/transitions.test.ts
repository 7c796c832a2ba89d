/**
 * Every change of status that docs/states.md allows, and every one that it does not: each verb on a job in each status.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer, type SuiteContext } from "../support/suite.ts";
import { only, type Rig, rigOf } from "./rig.ts";

const STATUSES = [
  "blocked",
  "scheduled",
  "pending",
  "processing",
  "completed",
  "failed",
  "cancelled",
] as const;
type Status = (typeof STATUSES)[number];

/** A job, the last lease it had, and its type. */
interface Subject {
  readonly id: string;
  readonly lease_id: string;
  readonly type: string;
}

interface Verb {
  readonly name: string;
  readonly act: (rig: Rig, job: Subject, context: SuiteContext) => Promise<unknown>;
  /** What it leads to from the statuses in which it changes something. */
  readonly leads: Partial<Record<Status, Status>>;
  /** Where it can be tried at all. @default every status */
  readonly on?: readonly Status[];
}

const HOUR_MS = 3_600_000;

const VERBS: readonly Verb[] = [
  { name: "claim", act: ({ claim }, { type }) => claim(type), leads: { pending: "processing" } },
  {
    name: "complete",
    act: ({ complete }, job) => complete(job, "done"),
    leads: { processing: "completed" },
  },
  { name: "fail", act: ({ fail }, job) => fail(job), leads: { processing: "scheduled" } },
  {
    name: "fail for good",
    act: ({ fail }, job) => fail(job, "boom", { retryable: false }),
    leads: { processing: "failed" },
  },
  {
    name: "snooze",
    act: ({ settle }, job) => settle(job, { outcome: "snoozed", detail: { delay_ms: HOUR_MS } }),
    leads: { processing: "scheduled" },
  },
  {
    name: "release",
    act: ({ settle }, job) => settle(job, { outcome: "released" }),
    leads: { processing: "pending" },
  },
  {
    name: "discard",
    act: ({ settle }, job) => settle(job, { outcome: "discarded" }),
    leads: { processing: "failed" },
  },
  {
    name: "end as cancelled",
    act: ({ settle }, job) => settle(job, { outcome: "cancelled" }),
    leads: { processing: "cancelled" },
  },
  {
    name: "complete without a lease",
    act: ({ sql }, { id }) => sql`select public.complete_job(${id})`,
    leads: { processing: "completed" },
  },
  {
    name: "fail without a lease",
    act: ({ sql }, { id }) => sql`select public.fail_job(${id})`,
    leads: { processing: "scheduled" },
  },
  {
    name: "cancel_job",
    act: ({ sql }, { id }) => sql`select public.cancel_job(${id})`,
    leads: { blocked: "cancelled", scheduled: "cancelled", pending: "cancelled" },
  },
  {
    name: "retry_job",
    act: ({ sql }, { id }) => sql`select public.retry_job(${id})`,
    leads: { scheduled: "pending", failed: "pending", cancelled: "pending" },
  },
  {
    name: "redrive_jobs",
    act: ({ sql }, { id }) => sql`select from public.redrive_jobs(array[${id}]::bigint[])`,
    leads: { failed: "pending" },
  },
  {
    name: "purge_jobs",
    act: ({ sql }, { id }) => sql`select public.purge_jobs(array[${id}]::bigint[])`,
    leads: {},
  },
  {
    name: "report_progress",
    act: ({ sql }, { id, lease_id }) =>
      sql`select public.report_progress(${id}, 50, 'half', null, ${lease_id})`,
    leads: {},
  },
  {
    name: "the end of its lease",
    async act({ sql }, _, { db }) {
      await db.advance(61_000);
      await sql`select public.cleanup_stuck_jobs()`;
    },
    leads: { processing: "pending" },
  },
  {
    name: "the coming of its time",
    async act({ sql }, _, { db }) {
      await db.advance(HOUR_MS);
      await sql`select queue.promote_due()`;
    },
    leads: { scheduled: "pending" },
  },
  {
    name: "the completion of its parent",
    act: (rig, { type }) => endParent(rig, type, "completed"),
    leads: { blocked: "pending" },
    on: ["blocked"],
  },
  {
    name: "the failure of its parent",
    act: (rig, { type }) => endParent(rig, type, "discarded"),
    leads: { blocked: "cancelled" },
    on: ["blocked"],
  },
];

/** How a job comes into each status. */
const WAYS: Readonly<Record<Status, (rig: Rig, type: string) => Promise<Subject>>> = {
  async blocked(rig, type) {
    const parent = await rig.enqueue(`${type}.parent`);
    const id = await rig.enqueue(type, { dependsOn: [parent] });
    return { id, lease_id: "0", type };
  },
  async scheduled(rig, type) {
    const job = await start(rig, type);
    await rig.settle(job, { outcome: "snoozed", detail: { delay_ms: HOUR_MS } });
    return job;
  },
  async pending(rig, type) {
    const job = await start(rig, type);
    await rig.settle(job, { outcome: "released" });
    return job;
  },
  processing: start,
  async completed(rig, type) {
    const job = await start(rig, type);
    await rig.complete(job);
    return job;
  },
  async failed(rig, type) {
    const job = await start(rig, type);
    await rig.fail(job, "boom", { retryable: false });
    return job;
  },
  async cancelled(rig, type) {
    const job = await start(rig, type);
    await rig.settle(job, { outcome: "cancelled" });
    return job;
  },
};

/** What has become of each such job so far. */
const TRAILS: Readonly<Record<Status, readonly string[]>> = {
  blocked: [">blocked"],
  scheduled: [">pending", "pending>processing", "processing>scheduled"],
  pending: [">pending", "pending>processing", "processing>pending"],
  processing: [">pending", "pending>processing"],
  completed: [">pending", "pending>processing", "processing>completed"],
  failed: [">pending", "pending>processing", "processing>failed"],
  cancelled: [">pending", "pending>processing", "processing>cancelled"],
};

describeOnEachServer(
  "changes of status",
  (context) => {
    for (const verb of VERBS) {
      for (const from of verb.on ?? STATUSES) {
        const to = verb.leads[from];
        it(`${verb.name}: ${from} ${to ? `becomes ${to}` : "stays as it is"}`, async () => {
          const rig = rigOf(context.db);
          const job = await WAYS[from](rig, `${from}.${verb.name}`.replaceAll(" ", "-"));

          await verb.act(rig, job, context);

          assert.deepEqual(await look(rig, job.id), {
            status: to ?? from,
            trail: [...TRAILS[from], ...(to ? [`${from}>${to}`] : [])],
          });
        });
      }
    }

    it("a request to cancel turns every further end into cancelled, but a completion", async () => {
      const rig = rigOf(context.db);
      const ends = ["completed", "failed", "snoozed", "released", "discarded", "cancelled"];
      const statuses: unknown[] = [];

      for (const outcome of ends) {
        const job = await rig.start(`wanted.${outcome}`);
        await rig.sql`select public.cancel_job(${job.id})`;
        statuses.push(await rig.settle(job, { outcome }));
      }

      const [completion, ...others] = statuses;
      assert.equal(completion, "completed");
      assert.deepEqual(others, ["cancelled", "cancelled", "cancelled", "cancelled", "cancelled"]);
    });
  },
  // The files of the single verbs go through the pooler.
  { pooler: false },
);

function start(rig: Rig, type: string): Promise<Subject> {
  return rig.start(type);
}

async function endParent(rig: Rig, type: string, outcome: string): Promise<void> {
  await rig.settle(await rig.take(`${type}.parent`), { outcome });
}

/** Status and trail, by one query. */
async function look({ sql }: Rig, id: string): Promise<{ status: string; trail: string[] }> {
  const [row] = await sql<{ status: string; trail: string[] }[]>`
    select (select status from public.job_queue where id = ${id}) as status, array(
      select coalesce(from_status, '') || '>' || to_status
      from public.job_status_history where job_id = ${id} order by seq, part
    ) as trail`;
  return { ...only(row) };
}

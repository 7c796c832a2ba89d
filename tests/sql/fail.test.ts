import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type Leased, type NewJob, only, rigOf } from "./rig.ts";

const NO_JITTER = { backoff: { base_ms: 1000, cap_ms: 3_600_000, jitter: 0 } };

describeOnEachServer("fail_job", (context) => {
  /** Fails a job again and again; the delay of each retry in milliseconds. */
  async function delaysOf(type: string, job: NewJob, retries: number): Promise<number[]> {
    const { enqueue, fail, sql, take } = rigOf(context.db);
    const id = await enqueue(type, job);
    const delays: number[] = [];
    for (let n = 0; n < retries; n += 1) {
      assert.equal(await fail(await take(type)), "scheduled");
      const [row] = await sql<{ ms: number }[]>`
        select (extract(epoch from token.at - run.finished_at) * 1000)::float8 as ms
        from queue.scheduled as token join queue.runs as run on run.job_id = token.id
        where token.id = ${id} order by run.lease_id desc limit 1`;
      delays.push(only(row).ms);
      await context.db.advance(only(row).ms + 1);
    }
    return delays;
  }

  it("schedules a retry while attempts are left, then buries the job", async () => {
    const { claim, enqueue, fail, row, take } = rigOf(context.db);
    const id = await enqueue("four", { maxRetries: 3, options: { backoff: { base_ms: 0 } } });
    const statuses: (string | null)[] = [];

    for (let n = 1; n <= 4; n += 1) {
      const job = await take("four");
      assert.equal(job.attempt, n);
      statuses.push(await fail(job, `failure ${n}`));
    }

    assert.deepEqual(statuses, ["scheduled", "scheduled", "scheduled", "failed"]);
    const ended = await row(id);
    assert.deepEqual([ended.attempts, ended.last_error], [4, "failure 4"]);
    assert.deepEqual([...(await claim("four"))], []);
  });

  it("a job with no retries has one attempt", async () => {
    const { fail, start, status } = rigOf(context.db);
    const job = await start("single", { maxRetries: 0 });

    assert.equal(await fail(job), "failed");
    assert.equal(await status(job.id), "failed");
  });

  it("doubles the delay with each retry, from one second, without jitter exactly", async () => {
    const delays = await delaysOf("doubling", { maxRetries: 9, options: NO_JITTER }, 5);

    assert.deepEqual(delays, [1000, 2000, 4000, 8000, 16_000]);
  });

  it("stops growing at the cap", async () => {
    const options = { backoff: { base_ms: 1000, cap_ms: 3000, jitter: 0 } };

    assert.deepEqual(
      await delaysOf("capped", { maxRetries: 9, options }, 4),
      [1000, 2000, 3000, 3000],
    );
  });

  it("takes a random part off, by default up to half", async () => {
    const { sql } = context.db;
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'jitter')) from generate_series(1, 60)))`;

    await sql`select public.fail_job(id, 'x', p_lease_id => lease_id) from public.get_next_job('w', array['jitter'], 60)`;

    const delays = await sql<{ ms: number }[]>`
      select (extract(epoch from run.retry_at - run.finished_at) * 1000)::float8 as ms
      from queue.runs as run join queue.jobs as job on job.id = run.job_id
      join queue.types as type on type.id = job.type_id where type.name = 'jitter'`;
    const all = delays.map(({ ms }) => ms);
    assert.equal(all.length, 60);
    assert.ok(Math.min(...all) >= 500 && Math.max(...all) <= 1000, all.join(" "));
    assert.ok(Math.min(...all) < 650 && Math.max(...all) > 850, "spread over the whole half");
    assert.ok(new Set(all).size > 50, "no two alike");
  });

  it("the whole delay is random with a jitter of one", async () => {
    const { sql } = context.db;

    const [row] = await sql<{ least: number; most: number; half: number }[]>`
      select queue.backoff_ms(2, 1000, 60000, 1, 0) as most, queue.backoff_ms(2, 1000, 60000, 1, 1) as least,
        queue.backoff_ms(2, 1000, 60000, 0.5, 1) as half`;

    assert.deepEqual({ ...row }, { least: 0, most: 4000, half: 2000 });
  });

  it("the formula holds for the hundredth retry as well", async () => {
    const { sql } = context.db;

    const [row] = await sql<{ ms: number }[]>`
      select queue.backoff_ms(10000, 86400000, 2147483647, 0, 0) as ms`;

    assert.equal(row?.ms, 2147483647);
  });

  it("uses the type's settings where the job has none", async () => {
    const { sql } = context.db;
    await sql`insert into queue.types (name, backoff_base_ms, backoff_cap_ms, backoff_jitter)
      values ('typed', 50, 120, 0), ('typed.too', 50, 120, 0)`;
    const options = { backoff: { base_ms: 70 } };

    const own = await delaysOf("typed", { maxRetries: 9 }, 3);
    const mixed = await delaysOf("typed.too", { maxRetries: 9, options }, 2);

    assert.deepEqual(own, [50, 100, 120]);
    assert.deepEqual(mixed, [70, 120]);
  });

  it("reads numbers with a fraction of zero, as some clients write them", async () => {
    const { fail, sql, take } = rigOf(context.db);
    await sql`select public.enqueue_job('zeros',
      p_options => '{"timeout_ms": 5000.0, "backoff": {"base_ms": 1000.0, "cap_ms": 1e4, "jitter": 0.0}}')`;

    assert.equal(await fail(await take("zeros")), "scheduled");
  });

  it("waits as long as it is told to", async () => {
    const { claim, fail, start } = rigOf(context.db);
    const job = await start("after");

    await fail(job, "later", { after: 300 });

    await context.db.advance(299_000);
    assert.deepEqual([...(await claim("after"))], []);
    await context.db.advance(2000);
    assert.equal((await claim("after")).length, 1);
  });

  const waits: [string, string, number][] = [
    ["a negative time for at once", "-5", 0],
    ["a time that is no number for none", "NaN", 1000],
    ["a time without end for a hundred years", "Infinity", 3_155_760_000_000],
    ["a time beyond all numbers for a hundred years", "1e400", 3_155_760_000_000],
  ];
  for (const [what, after, ms] of waits) {
    it(`takes ${what}`, async () => {
      const { sql, start } = rigOf(context.db);
      const job = await start(`wait.${after}`, { options: NO_JITTER });

      const [row] = await sql`
        select public.fail_job(${job.id}, 'x', true, ${after}::text::numeric, ${job.lease_id}) as status`;
      const [run] = await sql<{ ms: number }[]>`
        select (extract(epoch from retry_at - finished_at) * 1000)::float8 as ms
        from queue.runs where job_id = ${job.id}`;

      assert.equal(row?.["status"], "scheduled");
      assert.equal(run?.ms, ms);
    });
  }

  it("an error that is not retryable ends the job at once", async () => {
    const { fail, row, start } = rigOf(context.db);
    const job = await start("fatal", { maxRetries: 9 });

    assert.equal(await fail(job, "no such address", { retryable: false }), "failed");

    assert.equal((await row(job.id)).attempts, 1);
  });

  it("a dead letter keeps the facts, every error and how often it was tried", async () => {
    const { enqueue, fail, sql, take } = rigOf(context.db);
    const id = await enqueue("dead", {
      payload: { to: "ada" },
      priority: "high",
      tenant: "acme",
      queue: "dead-line",
      maxRetries: 1,
      options: { backoff: { base_ms: 0 } },
    });
    await fail(await take("dead"), "first 17");
    await fail(await take("dead"), "second 18");

    const [letter] = await sql`select * from public.job_dead_letter where id = ${id}`;

    const { errors, fingerprint, created_at, failed_at, ...facts } = only(letter);
    assert.deepEqual(facts, {
      id,
      type: "dead",
      queue: "dead-line",
      priority: "high",
      payload: { to: "ada" },
      tenant_id: "acme",
      attempts: 2,
      max_retries: 1,
      last_error: "second 18",
      redrive_count: 0,
      options: { backoff: { base_ms: 0 } },
    });
    assert.deepEqual(
      errors.map((one: { attempt: number; error: unknown; outcome: string }) => [
        one.attempt,
        one.outcome,
        one.error,
      ]),
      [
        [1, "failed", { message: "first 17" }],
        [2, "failed", { message: "second 18" }],
      ],
    );
    assert.match(fingerprint, /^[0-9a-f]{32}$/);
    assert.ok(failed_at > created_at);
  });

  it("errors that differ only in numbers, ids and quoted values have one fingerprint", async () => {
    const { bury, sql } = rigOf(context.db);
    const ids = [
      await bury("print", {}, "user 12 has no 'address' at 0xff01"),
      await bury("print", {}, "user 99 has no 'telephone' at 0xee"),
      await bury("print", {}, "user 12 is gone"),
      await bury("print.other", {}, "user 12 is gone"),
    ];

    const letters = await sql<{ fingerprint: string }[]>`
      select fingerprint from public.job_dead_letter where id = any (${ids}) order by id`;

    const prints = letters.map(({ fingerprint }) => fingerprint);
    assert.equal(prints[0], prints[1]);
    assert.equal(new Set(prints).size, 3);
  });

  it("one job of a large batch does not look at the others", async () => {
    const { claim, sql } = rigOf(context.db);
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'wide')) from generate_series(1, 1000)))`;
    const jobs = await claim("wide", { batch: 1000 });
    const fail = ({ id, lease_id }: Leased) => sql<
      { "QUERY PLAN": [{ Plan: { "Shared Hit Blocks": number } }] }[]
    >`explain (analyze, buffers, format json)
      select public.fail_job(${id}::bigint, p_lease_id => ${lease_id}::bigint)`;

    await fail(only(jobs[500]));
    const [row] = await fail(only(jobs[501]));

    const pages = only(row)["QUERY PLAN"][0].Plan["Shared Hit Blocks"];
    assert.ok(pages < 300, `${pages} pages`);
  });

  it("says null when the lease was lost, and the same again when asked again", async () => {
    const { fail, start } = rigOf(context.db);
    const job = await start("again");

    assert.equal(await fail({ ...job, lease_id: "999999999" }), null);
    assert.equal(await fail(job), "scheduled");
    assert.equal(await fail(job, "once more"), "scheduled");
    assert.equal(await fail({ ...job, lease_id: "999999999" }), null);
  });

  it("without a lease fails the live lease of the job", async () => {
    const { sql, start } = rigOf(context.db);
    const job = await start("simple", { maxRetries: 0 });

    const [row] = await sql`select public.fail_job(${job.id}) as status`;

    assert.equal(row?.["status"], "failed");
    const [letter] = await sql`select last_error from public.job_dead_letter where id = ${job.id}`;
    assert.equal(letter?.["last_error"], "unknown error");
  });

  it("cancels instead of trying again when somebody asked for it", async () => {
    const { fail, sql, start, status } = rigOf(context.db);
    const job = await start("unwanted");
    await sql`select public.cancel_job(${job.id}, 'changed my mind')`;

    assert.equal(await fail(job), "cancelled");

    assert.equal(await status(job.id), "cancelled");
    assert.equal((await sql`select from queue.dead_letters where job_id = ${job.id}`).length, 0);
  });
});

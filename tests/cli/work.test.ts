import assert from "node:assert/strict";
import { it } from "node:test";
import { shares } from "../../src/cli/live/run-worker.ts";
import { assertEvents } from "../docs/documented.ts";
import { spawnScript } from "../support/processes.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { APP, type CliRun, type CliWorld, cli, MAIN } from "./run.ts";

interface Attempt {
  readonly event: string;
  readonly id: string;
  readonly type: string;
  readonly outcome: string;
  readonly attempt: number;
  readonly retry_in_ms: number | null;
  readonly error: { readonly name: string; readonly message: string } | null;
}

describeWithDatabase("millrace work", (context) => {
  const work = (argv: readonly string[], world: CliWorld = {}): Promise<CliRun> =>
    cli(["work", APP, ...argv], { env: { DATABASE_URL: context.db.url }, ...world });

  const enqueue = async (...argv: string[]): Promise<string> => {
    const run = await cli(["enqueue", ...argv, "--json"], {
      env: { DATABASE_URL: context.db.url },
    });
    return run.json<{ id: string }>().id;
  };

  it("--once works until nothing is left, retries included, with a line for each attempt", async () => {
    const good = await enqueue("test.echo", "1");
    const flaky = await enqueue("test.flaky", "null", "--app", APP);
    const bad = await enqueue("test.doomed", "null", "--max-retries", "0");

    const run = await work(["--once"]);

    assert.equal(run.code, 0, run.err);
    assert.match(
      run.out,
      new RegExp(`✓ test.echo +#${good} +1/4 +[\\d.]+ m?s +waited +[\\d.]+ m?s`),
    );
    assert.match(
      run.out,
      new RegExp(`↻ test.flaky +#${flaky} +1/4 .* again in [\\d.]+ m?s: not yet`),
    );
    assert.match(run.out, new RegExp(`✓ test.flaky +#${flaky} +2/4 `));
    assert.match(
      run.out,
      new RegExp(`✗ test.doomed +#${bad} +1/1 .* dead letter: TypeError: it can't be done`),
    );
    assert.match(run.err, /^Working for .*app.fixture.ts on 127.0.0.1:\d+\/t_\w+/);
    assert.match(run.err, /Stopped after .*: 2 completed, 1 retried, 1 failed\n$/);
  });

  it("--json prints the same as lines of JSON", async () => {
    const flaky = await enqueue("test.flaky", "null", "--app", APP);

    const run = await work(["--once", "--json"]);

    const events = run.events<Attempt>();
    assert.deepEqual(
      events.map((one) => one.event),
      ["ready", "attempt", "attempt", "stopped"],
    );
    await assertEvents(events, ["attempt", "stopped"]);
    const [first, second] = events.filter((one) => one.event === "attempt");
    assert.deepEqual(
      [first?.id, first?.attempt, first?.outcome, first?.error],
      [flaky, 1, "retried", { name: "Error", message: "not yet" }],
    );
    assert.ok((first?.retry_in_ms ?? 0) > 0);
    assert.deepEqual([second?.outcome, second?.error], ["completed", null]);
    assert.equal(run.err, "");
  });

  it("a payload that does not fit its schema fails at once, with the path of the fault", async () => {
    await enqueue("test.strict", '{"from":"ada"}');

    const run = await work(["--once"]);

    assert.match(
      run.out,
      /✗ test.strict .* 1\/4 .*dead letter: .*Payload is invalid at to: must be there/,
    );
  });

  it("--once does not wait for what is due tomorrow, nor for a queue that is paused", async () => {
    const later = await enqueue("test.echo", "1", "--in", "1d");
    const paused = await enqueue("test.echo", "2", "--queue", "paused-queue");
    await context.db.sql`select public.pause_queue('paused-queue')`;

    const run = await work(["--once"]);

    assert.equal(run.code, 0);
    const env = { DATABASE_URL: context.db.url };
    assert.equal((await cli(["why", later, "--json"], { env })).json()["status"], "scheduled");
    assert.equal((await cli(["why", paused, "--json"], { env })).json()["status"], "pending");
  });

  it("--queues serves only these", async () => {
    const served = await enqueue("test.echo", "1", "--queue", "served");
    const other = await enqueue("test.echo", "2", "--queue", "other");

    await work(["--once", "--queues", "served=2"]);

    const env = { DATABASE_URL: context.db.url };
    assert.equal((await cli(["why", served, "--json"], { env })).json()["status"], "completed");
    assert.equal((await cli(["why", other, "--json"], { env })).json()["status"], "pending");
  });

  it("a stop gives back what does not finish in time, without using up the attempt", async () => {
    const id = await enqueue("test.patient");
    const stop = new AbortController();
    const onText = (text: string): void => {
      if (text.includes("patient.waits")) stop.abort();
    };

    const run = await work(["--stop-timeout", "20ms"], { stop: stop.signal, onText });

    assert.equal(run.code, 0);
    assert.match(run.err, new RegExp(`#${id} patient.waits for="the signal"\\n`));
    assert.match(run.err, /Stopping: 1 job still runs. Once more to give them back at once/);
    assert.match(run.out, new RegExp(`↻ test.patient +#${id} .* given back, attempt not counted`));
    const env = { DATABASE_URL: context.db.url };
    const { job } = (await cli(["jobs", "show", id, "--json"], { env })).json<{
      job: { status: string; attempts: number };
    }>();
    assert.deepEqual([job.status, job.attempts], ["pending", 0]);
    await cli(["jobs", "cancel", id], { env });
  });

  it("a second signal does not wait: exit 130", async () => {
    const id = await enqueue("test.patient");
    const worker = spawnScript(MAIN, {
      args: ["work", APP],
      env: { DATABASE_URL: context.db.url },
    });

    await worker.waitFor("patient.waits");
    worker.signal("SIGTERM");
    await worker.waitFor("Once more");
    // What comes at the same moment is an echo of the first signal; so it is sent until it is heard.
    const again = setInterval(() => worker.signal("SIGTERM"), 200);
    const exit = await worker.exited;
    clearInterval(again);

    assert.equal(exit.code, 130, worker.output());
    assert.match(worker.output(), /given back/);
    await cli(["jobs", "cancel", id], { env: { DATABASE_URL: context.db.url } });
  });

  it("an error that escapes from a handler's own promises stops the worker gracefully: exit 1", async () => {
    const id = await enqueue("test.stray");
    const other = await enqueue("test.patient");

    const worker = spawnScript(MAIN, {
      args: ["work", APP, "--stop-timeout", "100ms"],
      env: { DATABASE_URL: context.db.url },
    });
    const exit = await worker.exited;

    assert.equal(exit.code, 1, worker.output());
    assert.match(worker.output(), /An error escaped from the application; stopping Error: stray/);
    assert.match(worker.output(), new RegExp(`✓ test.stray +#${id}`));
    assert.match(worker.output(), new RegExp(`#${other} .*given back`));
    await cli(["jobs", "cancel", other], { env: { DATABASE_URL: context.db.url } });
  });

  it("a long backlog has a bar where somebody watches, and failures stay above it", async () => {
    await context.db.sql`
      select count(*) from public.enqueue_jobs((
        select jsonb_agg(jsonb_build_object('type', 'test.echo')) from generate_series(1, 150)))`;
    await enqueue("test.doomed", "null", "--max-retries", "0");

    const run = await work(["--once"], { isTerminal: true });

    assert.match(run.err, /working {2}[█░]+ {2}[\d,]+ of 15\d/);
    assert.match(run.err, /✗ test.doomed/);
    assert.doesNotMatch(run.out, /✓ test.echo/);
  });

  it("a flood of lines is cut to what somebody can read, and counted", async () => {
    await context.db.sql`
      select count(*) from public.enqueue_jobs((
        select jsonb_agg(jsonb_build_object('type', 'test.echo')) from generate_series(1, 2000)))`;

    const run = await work(["--once"]);

    const lines = run.out.match(/✓ test.echo/g)?.length ?? 0;
    const counted = [...run.out.matchAll(/… ([\d,]+) more attempts? completed/g)];
    const rest = counted.reduce((sum, [, amount = ""]) => sum + Number(amount.replace(",", "")), 0);
    assert.equal(lines + rest, 2_000);
    assert.ok(lines < 1_000, `${lines} lines`);
  });
});

it("options of the command line win over the application's queues", () => {
  assert.deepEqual(shares(undefined, undefined, undefined), { concurrency: 10 });
  assert.deepEqual(shares({ mail: 3 }, undefined, undefined), { queues: { mail: 3 } });
  assert.deepEqual(shares({ mail: 3, "*": 1 }, undefined, 5), { queues: { mail: 3, "*": 5 } });
  assert.deepEqual(shares({ mail: 3 }, { mail: 0, report: 2 }, 5), {
    queues: { mail: 5, report: 2 },
  });
});

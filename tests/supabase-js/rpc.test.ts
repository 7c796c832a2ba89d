/**
 * What an application sees: supabase-js against Supabase's API on our database, as a backend, as nobody, and as users of
 * two tenants. How arguments become parameters, payloads included, is told in sql/contract.test.ts.
 *
 * `@supabase/lite` 0.10 hands jsonb arguments of functions over as JSON strings: `{"a":1}` arrives as `"{\\"a\\":1}"`, so payloads are
 * unwrapped here, and enqueue_jobs, which takes an array, can't be called through it. PostgREST does not do that. A payload that is a
 * string is legitimate, so the functions must not guess.
 */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import type { SupabaseClient } from "@supabase/supabase-js";
import { oneOfEach } from "../sql/end-users.ts";
import { rigOf } from "../sql/rig.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { type LiteServer, startLite } from "./lite-server.ts";

interface Answer {
  readonly status: number;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly data: unknown;
}

/** The HTTP status and the SQLSTATE or code of a call that was refused. */
async function refused(
  call: PromiseLike<Answer>,
): Promise<[status: number, code: string | undefined]> {
  const { status, error, data } = await call;
  assert.equal(data, null);
  return [status, error?.code];
}

/** The message of a call that was refused; lite, unlike PostgREST, hides codes that are not Postgres' own. */
async function messageOf(call: PromiseLike<Answer>): Promise<string> {
  return (await call).error?.message ?? "";
}

async function data<T>(call: PromiseLike<Answer>): Promise<T> {
  const answer = await call;
  assert.equal(answer.error, null);
  return answer.data as T;
}

const unwrapped = (payload: unknown): unknown =>
  typeof payload === "string" ? JSON.parse(payload) : payload;

const VIEWS = ["job_queue", "queue_jobs", "job_dead_letter", "job_status_history"];

/** What end users must not call, each with arguments that are right. */
const SERVICE_ONLY: readonly (readonly [name: string, args: Readonly<Record<string, unknown>>])[] =
  [
    ["get_next_job", { p_worker_id: "w" }],
    ["claim_next_job", { p_worker_id: "w" }],
    ["complete_job", { p_job_id: 1 }],
    ["fail_job", { p_job_id: 1 }],
    ["cleanup_stuck_jobs", {}],
    ["report_progress", { p_job_id: 1, p_percent: 5 }],
    ["cancel_job", { p_job_id: 1 }],
    ["retry_job", { p_job_id: 1 }],
    ["redrive_jobs", { p_ids: [1] }],
    ["purge_jobs", { p_ids: [1] }],
    ["pause_queue", { p_queue: "open" }],
    ["resume_queue", { p_queue: "open" }],
    ["explain_job", { p_job_id: 1 }],
    ["queue_stats", {}],
    ["queue_health", {}],
    ["trigger_queue_worker", {}],
  ];

describeWithDatabase(
  "supabase-js",
  (context) => {
    let lite: LiteServer;
    let service: SupabaseClient;
    let anon: SupabaseClient;
    let ann: SupabaseClient;
    let bob: SupabaseClient;
    before(async () => {
      const { db } = context;
      await db.sql`insert into queue.types (name, is_public) values ('open', true), ('closed', false)`;
      await oneOfEach(db, "acme");
      await oneOfEach(db, "bolt");
      lite = await startLite(db);
      service = lite.service();
      anon = lite.anon();
      ann = lite.user({
        sub: ANN,
        app_metadata: { tenant_id: "acme" },
        user_metadata: { tenant_id: "bolt" },
      });
      bob = lite.user({
        sub: BOB,
        app_metadata: { tenant_id: "bolt" },
        user_metadata: { tenant_id: "acme" },
      });
    });
    after(() => lite?.stop());

    it("with the secret key enqueues a job, and reads it and its history", async () => {
      const id = await data<number>(
        service.rpc("enqueue_job", {
          p_type: "email",
          p_payload: { to: "user@example.com", tags: ["a"] },
          p_priority: "high",
        }),
      );

      const [job] = await data<Record<string, unknown>[]>(
        service.from("job_queue").select("type, status, priority, payload").eq("id", id),
      );
      const history = await data<unknown[]>(
        service.from("job_status_history").select("from_status, to_status").eq("job_id", id),
      );
      assert.deepEqual(
        { ...job, payload: unwrapped(job?.["payload"]) },
        {
          type: "email",
          status: "pending",
          priority: "high",
          payload: { to: "user@example.com", tags: ["a"] },
        },
      );
      assert.deepEqual(history, [{ from_status: null, to_status: "pending" }]);
    });

    it("with the secret key claims a job and completes it", async () => {
      const id = await data<number>(service.rpc("enqueue_job", { p_type: "work" }));

      const [job] = await data<{ id: number; lease_id: number }[]>(
        service.rpc("get_next_job", { p_worker_id: "w", p_types: ["work"] }),
      );
      const done = await data(
        service.rpc("complete_job", { p_job_id: id, p_lease_id: job?.lease_id }),
      );

      assert.deepEqual([job?.id, done], [id, true]);
      assert.equal(await rigOf(context.db).status(String(id)), "completed");
    });

    it("is told what is wrong with a job", async () => {
      const call = service.rpc("enqueue_job", { p_type: "a", p_priority: "urgent" });

      assert.match(await messageOf(call), /unknown priority: 'urgent'/);
    });

    it("without a user is refused to enqueue even a public type, and every view", async () => {
      const answers = [
        await refused(anon.rpc("enqueue_job", { p_type: "open" })),
        await refused(anon.rpc("enqueue_jobs", { p_jobs: [{ type: "open" }] })),
      ];
      for (const view of VIEWS) answers.push(await refused(anon.from(view).select()));

      assert.deepEqual(
        answers,
        answers.map(() => [401, "42501"]),
      );
    });

    it("as a user enqueues a public type for its own tenant, and sees the job", async () => {
      const id = await data<number>(
        ann.rpc("enqueue_job", { p_type: "open", p_payload: { n: 1 } }),
      );

      const rows = await data<unknown[]>(
        ann.from("job_queue").select("id, tenant_id").eq("id", id),
      );
      const history = await data<unknown[]>(
        ann.from("job_status_history").select("to_status").eq("job_id", id),
      );
      assert.deepEqual(rows, [{ id, tenant_id: "acme" }]);
      assert.deepEqual(history, [{ to_status: "pending" }]);
    });

    it("as a user of another tenant sees nothing of that job in any view", async () => {
      const id = await data<number>(ann.rpc("enqueue_job", { p_type: "open" }));

      for (const view of VIEWS) {
        const column = view === "job_status_history" ? "job_id" : "id";
        assert.deepEqual(await data(bob.from(view).select().eq(column, id)), [], view);
      }
    });

    it("as a user sees the jobs of its own tenant and of no other in every view that names the tenant", async () => {
      for (const view of ["job_queue", "queue_jobs", "job_dead_letter"]) {
        for (const [user, tenant] of [
          [ann, "acme"],
          [bob, "bolt"],
        ] as const) {
          const rows = await data<{ tenant_id: string }[]>(user.from(view).select("tenant_id"));
          assert.deepEqual([...new Set(rows.map((row) => row.tenant_id))], [tenant], view);
        }
      }
    });

    it("as a user is refused another tenant, a type that is not public, and a queue of its choice", async () => {
      const answers = [
        await refused(bob.rpc("enqueue_job", { p_type: "open", p_tenant_id: "acme" })),
        await refused(ann.rpc("enqueue_job", { p_type: "closed" })),
        await refused(ann.rpc("enqueue_job", { p_type: "open", p_queue: "vip" })),
      ];

      assert.deepEqual(
        answers,
        answers.map(() => [403, "42501"]),
      );
    });

    it("gains nothing from what users can write into their own metadata, or from claims beside app_metadata", async () => {
      const forged = {
        tenant_id: "acme",
        role: "service_role",
        app_metadata: { tenant_id: "acme" },
      };
      const eve = lite.user({
        sub: EVE,
        user_metadata: forged,
        raw_app_meta_data: forged,
        tenant_id: "acme",
      });

      assert.deepEqual(await refused(eve.rpc("enqueue_job", { p_type: "open" })), [403, "42501"]);
      assert.deepEqual(
        await refused(eve.rpc("enqueue_job", { p_type: "open", p_tenant_id: "acme" })),
        [403, "42501"],
      );
      for (const view of VIEWS) assert.deepEqual(await data(eve.from(view).select()), [], view);
    });

    it("is let in by no token that somebody else signed", async () => {
      const claims = { sub: EVE, app_metadata: { tenant_id: "acme" } };
      const eve = lite.user(claims, "a secret of somebody else, long enough too");

      const [enqueued] = await refused(eve.rpc("enqueue_job", { p_type: "open" }));
      const [read] = await refused(eve.from("job_queue").select());

      assert.deepEqual([enqueued, read], [401, 401]);
    });

    for (const [name, args] of SERVICE_ONLY) {
      it(`as a user and as nobody is refused ${name}`, async () => {
        assert.deepEqual(await refused(ann.rpc(name, args)), [403, "42501"]);
        assert.deepEqual(await refused(anon.rpc(name, args)), [401, "42501"]);
      });
    }

    it("as a user can't change what the views show", async () => {
      const answers = [
        await refused(ann.from("job_queue").update({ payload: {} }).gt("id", 0)),
        await refused(ann.from("job_dead_letter").delete().gt("id", 0)),
        await refused(ann.from("queue_jobs").insert({ id: 1 })),
      ];

      // Nobody could: Postgres says so before it looks at rights.
      assert.deepEqual(
        answers.map(([, code]) => code),
        ["55000", "55000", "55000"],
      );
    });

    it("can't reach the machine's schema, whoever asks", async () => {
      for (const client of [service, ann, anon]) {
        const [status] = await refused(client.schema("queue").from("jobs").select());
        assert.equal(status, 406);
      }
    });

    it("is told when the tenant's quota is used up", async () => {
      const { sql } = context.db;
      await sql`update queue.tenants set user_max_open_jobs = 0 where name = 'bolt'`;

      const message = await messageOf(bob.rpc("enqueue_job", { p_type: "open" }));

      await sql`update queue.tenants set user_max_open_jobs = null`;
      assert.match(message, /quota exceeded: at most 0 open jobs/);
    });
  },
  { pooler: false },
);

const ANN = "7d9a6a51-2f67-4f1b-9f0a-0c6f8f1f8a11";
const BOB = "7d9a6a51-2f67-4f1b-9f0a-0c6f8f1f8a12";
const EVE = "7d9a6a51-2f67-4f1b-9f0a-0c6f8f1f8a13";

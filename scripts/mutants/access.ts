import { type Mutant, migration, plant, sqlTest } from "./mutant.ts";

const FOUNDATION = migration("foundation");
const ACCESS = migration("access");
const ENQUEUE = migration("enqueue");
const OPERATE = migration("operate");
const VIEWS = migration("views");
const END_USERS = migration("end_users");
const REALTIME = migration("realtime");
const HOSTILE_CALLERS = sqlTest("hostile-callers");

/** Bugs in who may do what. */
export const ACCESS_MUTANTS: readonly Mutant[] = [
  plant(
    "hand-granted-roles-forgotten",
    "roles that were let in by hand lose what a migration makes anew",
    ACCESS,
    ["    perform queue.grant_operator(v_role);\n  end loop", "    null;\n  end loop"],
    [sqlTest("access")],
  ),
  plant(
    "rls-off",
    "row level security is off",
    ACCESS,
    ["execute format('alter table queue.%I enable row level security', v_table);", ""],
    [sqlTest("conventions"), sqlTest("access")],
  ),
  plant(
    "rls-not-forced",
    "row level security does not hold for the owner",
    ACCESS,
    ["execute format('alter table queue.%I force row level security', v_table);", ""],
    [sqlTest("conventions")],
  ),
  plant(
    "tenant-policy-open",
    "a tenant reads the jobs of all",
    ACCESS,
    ["using (tenant_id = (select queue.caller_tenant_id()))", "using (true)"],
    [sqlTest("access-tenants")],
  ),
  plant(
    "view-as-definer",
    "a view shows its reader what its owner may see",
    VIEWS,
    [
      "create view public.job_queue with (security_invoker = true) as",
      "create view public.job_queue as",
    ],
    [sqlTest("conventions"), sqlTest("access")],
  ),
  {
    name: "temporary-types-first",
    bug: "who may call a function has its owner run what a temporary type checks",
    edits: [
      {
        file: ENQUEUE,
        from: "set search_path = pg_catalog, pg_temp",
        to: "set search_path = ''",
        every: true,
      },
    ],
    tests: [sqlTest("temp-names")],
  },
  plant(
    "execute-left-to-public",
    "everybody may call the machine's functions",
    ACCESS,
    ["revoke execute on all functions in schema queue from public;", ""],
    [sqlTest("access"), sqlTest("conventions")],
  ),
  plant(
    "contract-left-to-public",
    "everybody may call the contract's functions",
    ACCESS,
    [
      "public.trigger_queue_worker, public.set_job_route, public.remove_job_route\n  from public;",
      "public.trigger_queue_worker, public.set_job_route\n  from public;",
    ],
    [sqlTest("access"), sqlTest("conventions")],
  ),
  plant(
    "policies-of-the-old-owner",
    "after a restore or a change of owner row level security hides the queue from its owner for good",
    ACCESS,
    ["and policy.polroles = array[class.relowner]\n      ))", "\n      ))"],
    [sqlTest("owners")],
  ),
  plant(
    "restore-leaves-it-to-public",
    "what a restore without privileges gave to everybody stays theirs",
    ACCESS,
    ["  revoke execute on all functions in schema queue from public;\n", ""],
    [sqlTest("owners")],
  ),
  plant(
    "sequences-stay-behind",
    "the repair after a failover leaves sequences behind the numbers in use, which are given out again",
    migration("reconcile"),
    ["behind.highest + 1000)", "behind.given)"],
    [sqlTest("reconcile")],
  ),
  plant(
    "repair-moves-ids-back",
    "the repair takes ids that were moved on and not used since for ids that lie behind",
    migration("reconcile"),
    [
      "ids.last_value - (not ids.is_called)::integer from queue.job_ids",
      "case when ids.is_called then ids.last_value else 0 end from queue.job_ids",
    ],
    [sqlTest("reconcile")],
  ),
  plant(
    "stalled-replication-unseen",
    "nobody is told that commits wait for a standby that is gone",
    migration("server"),
    ["session.wait_event = 'SyncRep'", "session.wait_event = 'SyncRepWait'"],
    ["tests/crash/failover.test.ts"],
  ),
  plant(
    "tenant-from-user-metadata",
    "users choose their tenant themselves",
    FOUNDATION,
    ["'{app_metadata,tenant_id}'", "'{user_metadata,tenant_id}'"],
    [sqlTest("access-tenants"), sqlTest("conventions")],
  ),
  plant(
    "role-from-user-metadata",
    "users choose themselves which types they may enqueue",
    FOUNDATION,
    ["'{app_metadata,role}'", "'{user_metadata,role}'"],
    [sqlTest("access-tenants"), sqlTest("conventions")],
  ),
  plant(
    "own-roles-trusted",
    "a role that inherits from authenticated enqueues what it likes, for any tenant",
    FOUNDATION,
    [
      "return not pg_has_role(v_role, (select space.nspowner",
      "return false and not pg_has_role(v_role, (select space.nspowner",
    ],
    [sqlTest("access-tenants")],
  ),
  plant(
    "quota-counts-calls",
    "a call for many jobs counts as one",
    END_USERS,
    [
      "v_count integer := cardinality(p_job_ids);",
      "v_count integer := least(cardinality(p_job_ids), 1);",
    ],
    [sqlTest("quotas")],
  ),
  plant(
    "quota-behind-an-old-snapshot",
    "who can't see the other's job counts without it",
    END_USERS,
    [
      "  where quota.tenant_id = p_tenant_id\n  returning",
      "  where quota.tenant_id = p_tenant_id and v_quota.per_minute is not null\n  returning",
    ],
    [sqlTest("quotas")],
  ),
  plant(
    "quota-remembers-ended-jobs",
    "a tenant that has used up its quota never gets room again",
    END_USERS,
    [
      ") in ('completed', 'failed', 'cancelled') or exists (",
      ") in ('completed', 'cancelled') or exists (",
    ],
    [sqlTest("quotas")],
  ),
  plant(
    "realtime-topic-open",
    "a user hears the news of every tenant",
    REALTIME,
    [
      "(select realtime.topic()) = 'queue:tenant:' || (select queue.caller_tenant())",
      "(select realtime.topic()) like 'queue:tenant:%'",
    ],
    [sqlTest("realtime")],
  ),
  plant(
    "realtime-progress-flood",
    "every report of progress is sent to browsers",
    REALTIME,
    ["v_now - interval '1 second'", "v_now"],
    [sqlTest("realtime")],
  ),
  plant(
    "realtime-fails-its-caller",
    "a job can't end while Realtime refuses messages",
    REALTIME,
    ["    raise log 'millrace", "    raise exception 'millrace"],
    [sqlTest("realtime")],
  ),
  plant(
    "search-path-open",
    "a function finds what its caller put in its way",
    OPERATE,
    [
      "create function queue.cancel(p_job_id bigint, p_reason text)\nreturns text\nlanguage plpgsql\nvolatile\nsecurity definer\nset search_path = pg_catalog, pg_temp",
      "create function queue.cancel(p_job_id bigint, p_reason text)\nreturns text\nlanguage plpgsql\nvolatile\nsecurity definer",
    ],
    [sqlTest("conventions")],
  ),
  plant(
    "heir-without-token-is-a-service",
    "a login with the rights of end users enqueues whatever it likes for any tenant, if it brings no token",
    FOUNDATION,
    [
      "if pg_has_role(v_role, to_regrole('authenticated'), 'usage') is not true and (",
      "if coalesce(current_setting('request.jwt.claims', true), '') = '' or pg_has_role(v_role, to_regrole('authenticated'), 'usage') is not true and (",
    ],
    [HOSTILE_CALLERS],
  ),
  plant(
    "jitter-fails-settlement",
    "an end user makes a job whose end can't be written, nor that of any job that ends with it",
    migration("verdict"),
    [
      "round((job.options #>> '{backoff,jitter}')::numeric, 6)::double precision",
      "(job.options #>> '{backoff,jitter}')::double precision",
    ],
    [HOSTILE_CALLERS],
  ),
  plant(
    "bloated-payload-accepted",
    "a job that no answer can hold makes every claim fail that comes by it",
    ENQUEUE,
    [
      "if (v_is_end_user or octet_length(v_payload::text) > 8 * pg_column_size(v_payload) + 4096) and queue.is_bloated(v_payload) then",
      "if false then",
    ],
    [HOSTILE_CALLERS],
  ),
  plant(
    "told-number-breaks-statistics",
    "a worker that tells a large number makes statistics fail",
    migration("worker_news"),
    [
      "least(greatest(sum(queue.number_of(worker.details, array['fetched', told.queue])), 0), 1e15)::bigint",
      "sum(queue.number_of(worker.details, array['fetched', told.queue]))::bigint",
    ],
    [HOSTILE_CALLERS],
  ),
  plant(
    "guard-kept-by-open-transaction",
    "after a start of the server everybody waits for the transaction that came first",
    migration("generations"),
    ["raise exception 'the guard is let go' using errcode = 'MR000';", "null;"],
    [HOSTILE_CALLERS],
  ),
  plant(
    "forged-cancel-believed",
    "whoever may connect cancels running jobs by a notification",
    "src/worker/engine.ts",
    [
      "onCancel: new CancelCalls({ settings, worker, link, book, verdicts: this.#verdicts }).hear,",
      "onCancel: (lease, id) => { const attempt = book.find(lease, id); if (attempt) this.#verdicts.cancel(attempt); },",
    ],
    ["tests/worker/strangers.test.ts"],
  ),
  plant(
    "platform-names-believed",
    "who may make schemas lends one of the platform's names to functions that the owner runs",
    FOUNDATION,
    ["maker.rolsuper or maker.oid = owner.oid", "true"],
    [HOSTILE_CALLERS],
  ),
  plant(
    "refused-calls-use-up-ids",
    "an end user uses up the ids of everybody by calls that its quota refuses",
    migration("end_users"),
    ["if p_count > greatest(v_most, 1000) then", "if false then"],
    [HOSTILE_CALLERS],
  ),
];

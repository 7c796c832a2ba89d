import { type Mutant, migration, PROPERTY, plant, race, sqlTest } from "./mutant.ts";

const FOUNDATION = migration("foundation");
const TABLES = migration("tables");
const BULK = migration("enqueue_bulk");

/** Bugs in how jobs come in. */
export const ENQUEUE_MUTANTS: readonly Mutant[] = [
  plant(
    "dedupe-without-unique-index",
    "two callers with one idempotency key both make a job",
    TABLES,
    [
      "constraint idempotency_keys_pkey primary key (scope, key)",
      "constraint idempotency_keys_pkey check (key <> '')",
    ],
    [race("enqueue")],
  ),
  plant(
    "dedupe-across-tenants",
    "one tenant's idempotency key hides the job of another",
    migration("keys"),
    ["coalesce(p_tenant_id, '') ||", "'' ||"],
    [sqlTest("idempotency")],
  ),
  plant(
    "repeated-element-keeps-its-parents",
    "a repeated element of a bulk call adds its parents to the job of the first",
    BULK,
    ["case when made.is_new then item.depends_on end", "item.depends_on"],
    [sqlTest("idempotency"), PROPERTY],
  ),
  plant(
    "doomed-child-enqueued",
    "a child of a job that failed before waits for ever",
    BULK,
    ["  if v_doomed is not null then", "  if false then"],
    [sqlTest("dependencies")],
  ),
  plant(
    "unknown-priority-accepted",
    "a misspelt priority is taken for some other",
    FOUNDATION,
    ["when 'low' then 3 end::smallint", "when 'low' then 3 else 2 end::smallint"],
    [sqlTest("refusals"), sqlTest("enqueue-many")],
  ),
  plant(
    "payload-unlimited",
    "a payload of any size is accepted",
    migration("checks"),
    ["if v_bytes > v_limit then", "if false then"],
    [sqlTest("enqueue")],
  ),
  plant(
    "alike-of-any-size",
    "bulk enqueue takes payloads beyond the limit",
    migration("enqueue_alike"),
    ["if v_large is not null then", "if false then"],
    [sqlTest("enqueue-alike")],
  ),
];

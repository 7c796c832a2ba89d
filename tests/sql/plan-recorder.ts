import assert from "node:assert/strict";
import postgres from "postgres";
import type { TestDatabase } from "../support/database.ts";

/** A node of a plan, as EXPLAIN tells it in JSON. */
interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Shared Hit Blocks"?: number;
  readonly "Shared Read Blocks"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** What one statement did, with all statements of the functions that it called. */
export interface Recording {
  /** Pages touched, of tables and indexes. */
  readonly buffers: number;
  /** "Seq Scan on ready", "Index Scan on jobs_p1" …, each once, sorted. */
  readonly scans: readonly string[];
  /** The value in the first column of the first row. */
  readonly answer: unknown;
}

export interface PlanRecorder {
  /** Runs a statement and tells what it did. */
  record(statement: string): Promise<Recording>;
}

/** A session of the superuser whose every plan, nested ones too, comes back as a message: auto_explain. */
export async function openPlanRecorder(db: TestDatabase): Promise<PlanRecorder & AsyncDisposable> {
  const plans: PlanNode[] = [];
  const sql = postgres(db.superUrl, {
    max: 1,
    prepare: false,
    onnotice: ({ message }) => {
      const json = /plan:\n([\s\S]*)$/.exec(message ?? "")?.[1];
      if (json !== undefined) plans.push((JSON.parse(json) as { Plan: PlanNode }).Plan);
    },
  });
  await sql.unsafe(`
    load 'auto_explain';
    set auto_explain.log_min_duration = 0;
    set auto_explain.log_analyze = on;
    set auto_explain.log_buffers = on;
    set auto_explain.log_timing = off;
    set auto_explain.log_nested_statements = on;
    set auto_explain.log_format = json;
    set client_min_messages = log;
  `);
  return {
    async record(statement) {
      plans.length = 0;
      const [row] = await sql.unsafe(statement).values();
      // The outermost statement ends last; its buffers include those of all others.
      const whole = plans.at(-1) ?? assert.fail(`no plan came for ${statement}`);
      return {
        buffers: (whole["Shared Hit Blocks"] ?? 0) + (whole["Shared Read Blocks"] ?? 0),
        scans: [...new Set(plans.flatMap(scansOf))].sort(),
        answer: row?.[0],
      };
    },
    [Symbol.asyncDispose]: () => sql.end(),
  };
}

function scansOf(node: PlanNode): string[] {
  const below = (node.Plans ?? []).flatMap(scansOf);
  const table = node["Relation Name"];
  return table !== undefined && node["Node Type"].endsWith("Scan")
    ? [`${node["Node Type"]} on ${table}`, ...below]
    : below;
}

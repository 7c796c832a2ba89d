import type { SampleJob } from "../../db/inspect-run.ts";
import type { Environment } from "../../embedded/run-program.ts";
import { QUEUE_WORKER } from "../../local/start-local-platform.ts";
import type { Application } from "../application.ts";
import type { OpenDatabase } from "../database.ts";
import type { Style } from "../output/style.ts";
import { countOf, duration, oneLine } from "../output/words.ts";
import { callName } from "./call-name.ts";
import type { DevFunctions } from "./dev-functions.ts";

export interface HeadFacts {
  readonly database: OpenDatabase;
  /** Of the server, such as `18.4`. */
  readonly serverVersion: string;
  readonly application: Application | undefined;
  readonly functions: DevFunctions | undefined;
  /** How many migrations were applied just now. */
  readonly applied: number;
  readonly readyMs: number;
  /** One of the jobs that the seed made. */
  readonly sample: SampleJob | null;
  readonly once: boolean;
  readonly env: Environment;
}

const MOST_TYPES = 6;

/** What `millrace dev` says before the first job. */
export function devHead(facts: HeadFacts, style: Style): string[] {
  const { database, application, applied, serverVersion } = facts;
  const server = `Postgres ${serverVersion}`;
  const rows: HeadRow[] = [
    [
      "Database",
      database.source === "local"
        ? `${server}, local, in ${database.place}`
        : `${server} at ${database.place}`,
      applied === 0 ? "schema up to date" : `${countOf(applied, "migration")} applied`,
    ],
    ...jobRows(application, style),
    ...functionRows(facts),
    ...(facts.once ? [] : tryIt(facts)),
    ["Stop", facts.once ? "by itself when no job is left, or Ctrl-C" : "Ctrl-C", ""],
  ];
  const width = Math.max(
    ...rows.filter(([, , more]) => more !== "").map(([, value]) => value.length),
  );
  return [
    "",
    `  ${style("strong", "Millrace")}  ready in ${duration(facts.readyMs)}`,
    "",
    ...rows.map(([name, value, more]) =>
      `  ${style("faint", name.padEnd(10))}${more === "" ? value : `${value.padEnd(width)}   ${style("faint", more)}`}`.trimEnd(),
    ),
    "",
  ];
}

type HeadRow = readonly [name: string, value: string, more: string];

function jobRows(application: Application | undefined, style: Style): HeadRow[] {
  if (!application) return [];
  return [
    ["Jobs", `${countOf(application.handlers.length, "type")} in ${application.path}`, ""],
    ["", style("faint", typeNames(application)), ""],
  ];
}

function functionRows({ functions }: HeadFacts): HeadRow[] {
  if (!functions) return [];
  const { server, hasDoorbell } = functions.platform;
  return functions.names.map((name, at) => [
    at === 0 ? "Functions" : "",
    `${server.functionsUrl}/${name}`,
    name !== QUEUE_WORKER
      ? ""
      : hasDoorbell
        ? "rung when jobs are enqueued"
        : "nobody rings it: this database has no pg_net of ours, see --stand-ins",
  ]);
}

/** The first type is the one that its author put first; without an application, one that is routed to a function. */
function tryIt({ sample, application, functions, env }: HeadFacts): HeadRow[] {
  const routed = functions?.names.find((name) => name !== QUEUE_WORKER)?.replaceAll("-", "_");
  const type = application ? (sample?.type ?? application.handlers[0]?.job.type) : routed;
  if (type === undefined) return [];
  const payload = JSON.stringify(sample?.payload ?? {}).replaceAll("'", "'\\''");
  return [["Try it", `${callName(env)} enqueue ${type} '${payload}'`, ""]];
}

function typeNames({ handlers }: Application): string {
  const types = handlers.map((handler) => handler.job.type);
  const rest = types.length - MOST_TYPES;
  const shown = types.slice(0, MOST_TYPES).join(", ");
  return oneLine(rest > 0 ? `${shown} and ${rest} more` : shown, 120);
}

// One Markdown table per load.

import type { Column, Figures, Load } from "./loads/load.ts";
import { median } from "./statistics.ts";

/** One cell of the matrix: what one peer did under one load. */
export interface Result {
  readonly load: string;
  readonly case: string;
  readonly peer: string;
  readonly round: number;
  /** The machine's load average before it began. */
  readonly loadBefore: number;
  readonly figures: Figures;
}

/** Medians over the rounds, the spread of the first column, and its ratio to the baseline peer's in the same case. */
export function toTable(load: Load, results: readonly Result[], baseline: string): string {
  const [main, ...others] = load.columns;
  const titles = [
    "peer",
    "case",
    main.title,
    "min..max",
    "ratio",
    ...others.map(({ title }) => title),
  ];
  const lines = [
    `### ${load.name}: ${load.about}\n`,
    row([...titles, "rounds"]),
    row([...titles, "rounds"].map((_title, index) => (index < 2 ? "---" : "--:"))),
  ];
  const groups = new Map<string, Result[]>();
  for (const result of results) {
    const key = `${result.case} ${result.peer}`;
    groups.set(key, [...(groups.get(key) ?? []), result]);
  }
  const values = (group: readonly Result[], { figure }: Column): number[] =>
    group.map(({ figures }) => figures[figure] ?? Number.NaN);
  for (const group of groups.values()) {
    const [first] = group;
    if (first === undefined) continue;
    const base = groups.get(`${first.case} ${baseline}`) ?? [];
    const mains = values(group, main);
    const ratio = median(mains) / median(values(base, main));
    lines.push(
      row([
        first.peer,
        first.case,
        show(median(mains), main.digits),
        `${show(Math.min(...mains), main.digits)}..${show(Math.max(...mains), main.digits)}`,
        show(ratio, 2),
        ...others.map((column) => show(median(values(group, column)), column.digits)),
        String(group.length),
      ]),
    );
  }
  return lines.join("\n");
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

function show(value: number, digits = 0): string {
  return Number.isFinite(value) ? value.toFixed(digits) : "-";
}

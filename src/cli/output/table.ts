import { stripVTControlCharacters } from "node:util";
import type { Style } from "./style.ts";

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  readonly align?: "left" | "right";
  /** The one column that gives way when the terminal is narrow. */
  readonly isFlexible?: boolean;
  /** Leaves the column out when no row has anything in it. */
  readonly isOptional?: boolean;
}

export interface TableOptions {
  readonly style: Style;
  /** How wide a line may be. @default no limit */
  readonly width?: number;
  /** @default two spaces */
  readonly indent?: string;
}

const GAP = "  ";
const NARROWEST = 12;

/** Rows as aligned lines under a faint head. */
export function table<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  { style, width = Number.POSITIVE_INFINITY, indent = "  " }: TableOptions,
): string[] {
  const shown = columns.filter(
    (column) => !column.isOptional || rows.some((row) => column.cell(row) !== ""),
  );
  const cells = rows.map((row) => shown.map((column) => column.cell(row)));
  const widths = shown.map((column, index) =>
    Math.max(column.title.length, ...cells.map((line) => visibleWidth(line[index] ?? ""))),
  );
  const total = indent.length + widths.reduce((sum, one) => sum + one + GAP.length, -GAP.length);
  const flexible = shown.findIndex((column) => column.isFlexible);
  if (flexible >= 0 && total > width) {
    widths[flexible] = Math.max(NARROWEST, (widths[flexible] ?? 0) - (total - width));
  }
  const lay = (line: readonly string[]): string =>
    (
      indent +
      line.map((cell, index) => fit(cell, widths[index] ?? 0, shown[index]?.align)).join(GAP)
    ).trimEnd();
  const head = lay(shown.map((column) => column.title));
  return [style("faint", head), ...cells.map(lay)];
}

/** Names and values in two columns. */
export function pairs(
  entries: readonly (readonly [name: string, value: string])[],
  style: Style,
  indent = "  ",
): string[] {
  const width = Math.max(...entries.map(([name]) => name.length));
  return entries.map(([name, value]) => `${indent}${style("faint", name.padEnd(width))}  ${value}`);
}

/** How many columns a text takes, colours aside. */
export function visibleWidth(text: string): number {
  return [...stripVTControlCharacters(text)].length;
}

/** Pads or cuts a text to a width. */
export function fit(text: string, width: number, align: "left" | "right" = "left"): string {
  const missing = width - visibleWidth(text);
  if (missing < 0) return cut(text, width);
  return align === "right" ? " ".repeat(missing) + text : text + " ".repeat(missing);
}

/** A cut text loses its colours: cutting inside an escape sequence would spoil the line. */
function cut(text: string, width: number): string {
  return `${[...stripVTControlCharacters(text)].slice(0, width - 1).join("")}…`;
}

/** What `supabase/config.toml` says of functions, and what is added to it. */
export interface FunctionSections {
  /** The file with what was missing at its end; every other line is as it was. */
  readonly text: string;
  /** Functions that have a section now and had none. */
  readonly added: readonly string[];
  /** Functions that have settings, and `verify_jwt = false` is not among them. */
  readonly verifying: readonly string[];
}

/** Adds a section with `verify_jwt = false` for each of the functions that has no settings. */
export function withFunctionSections(toml: string, names: readonly string[]): FunctionSections {
  const settings = readSettings(toml);
  const added = names.filter((name) => !settings.has(name));
  const verifying = names.filter((name) => settings.get(name) === "on");
  if (added.length === 0) return { text: toml, added, verifying };
  const end = toml.includes("\r\n") ? "\r\n" : "\n";
  const sections = added.map((name) => ["", `[functions.${name}]`, ...SETTINGS, ""].join(end));
  const start = toml === "" || toml.endsWith("\n") ? toml : `${toml}${end}`;
  return { text: start + sections.join(""), added, verifying };
}

const SETTINGS = ["# It checks its callers itself.", "verify_jwt = false"];

/**
 * Every function with settings, and whether the gateway checks JWTs for it. As far as TOML is written in configurations: sections,
 * dotted keys, inline tables.
 */
function readSettings(toml: string): Map<string, "on" | "off"> {
  const found = new Map<string, "on" | "off">();
  let section: readonly string[] = [];
  for (const line of toml.split(/\r?\n/)) {
    const [, header] = /^\s*\[\s*([^[\]]+?)\s*\]/.exec(line) ?? [];
    const [, key, value = ""] =
      /^\s*((?:[\w-]+|"[^"]*"|'[^']*'|\s*\.\s*)+?)\s*=(.*)$/.exec(line) ?? [];
    if (header !== undefined) section = partsOf(header);
    else if (key === undefined) continue;
    const [root, name, setting] =
      header === undefined ? [...section, ...partsOf(key ?? "")] : section;
    if (root !== "functions" || name === undefined) continue;
    const isOff =
      setting === "verify_jwt"
        ? /^\s*false\b/.test(value)
        : setting === undefined && /[{,]\s*verify_jwt\s*=\s*false\b/.test(value);
    found.set(name, isOff ? "off" : (found.get(name) ?? "on"));
  }
  return found;
}

function partsOf(path: string): string[] {
  return [...path.matchAll(/"([^"]*)"|'([^']*)'|([\w-]+)/g)].map(
    ([, double, single, bare]) => double ?? single ?? bare ?? "",
  );
}

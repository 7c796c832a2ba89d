/** The Standard Schema interface, version 1: what Zod, Valibot, ArkType and others have in common. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly "~standard": StandardProps<Input, Output>;
}

export interface StandardProps<Input, Output> {
  readonly version: 1;
  readonly vendor: string;
  readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
  /** Never present at run time; carries the types. */
  readonly types?: { readonly input: Input; readonly output: Output } | undefined;
}

export type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] };

export interface StandardIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** A schema that lets everything through: types without a check at run time. */
export function unchecked<T>(): StandardSchema<T, T> {
  return {
    "~standard": {
      version: 1,
      vendor: "millrace",
      validate: (value) => ({ value: value as T }),
    },
  };
}

/** The first issue's place in words, such as `items[2].email`. */
export function issuePath(issue: StandardIssue | undefined): string {
  return pathText((issue?.path ?? []).map((part) => (typeof part === "object" ? part.key : part)));
}

/** Keys and indices in words, such as `items[2].email`. */
export function pathText(keys: readonly PropertyKey[]): string {
  let path = "";
  for (const key of keys) {
    path += typeof key === "number" ? `[${key}]` : path === "" ? String(key) : `.${String(key)}`;
  }
  return path;
}

/** All issues in one sentence, cut after the third. */
export function issueSummary(issues: readonly StandardIssue[]): string {
  const [first, ...others] = issues;
  const more = others
    .slice(0, 2)
    .map((issue) => `; ${issuePath(issue) || "payload"}: ${issue.message}`);
  const rest = others.length > 2 ? `; and ${others.length - 2} more` : "";
  return `${first?.message ?? "does not fit the schema"}${more.join("")}${rest}`;
}

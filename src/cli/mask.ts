import { type Address, parseAddress } from "../db/address.ts";

const REPLACEMENT = "***";

/** Passwords shorter than this occur in ordinary words too; they are only masked within URLs. */
const SHORTEST_SECRET = 8;

const PATTERNS: readonly [RegExp, string][] = [
  // postgres://user:password@host; greedy, because a password may hold an @ that was not encoded.
  [/(\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@"']*:)[^\s"']*@/gi, `$1${REPLACEMENT}@`],
  [/(\bpassword=)[^\s&"']+/gi, `$1${REPLACEMENT}`],
  [/\bsb_secret_[\w-]+/g, `sb_secret_${REPLACEMENT}`],
  [/\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+/g, REPLACEMENT],
];

/** Hides passwords and keys in a text that people will see. */
export type Mask = (text: string) => string;

/** Masks what looks like a secret, and the passwords of these URLs and these secrets wherever they stand. */
export function createMask(
  urls: readonly (string | undefined)[],
  others: readonly string[] = [],
): Mask {
  const passwords = urls.flatMap((url) => (url === undefined ? [] : passwordsOf(url)));
  const secrets = [...passwords, ...others];
  return (text) => {
    let masked = text;
    for (const [pattern, replacement] of PATTERNS) masked = masked.replace(pattern, replacement);
    for (const secret of secrets) masked = masked.replaceAll(secret, REPLACEMENT);
    return masked;
  };
}

function passwordsOf(text: string): string[] {
  const address = tryParse(text);
  const { password } = address ?? {};
  if (!address || password === undefined || password.length < SHORTEST_SECRET) return [];
  // `postgres:postgres@…/postgres`: hiding the word everywhere would hide too much.
  const names = [address.user, address.database, ...address.servers.map(({ host }) => host)];
  return names.includes(password) ? [] : [...new Set([password, encodeURIComponent(password)])];
}

function tryParse(text: string): Address | undefined {
  try {
    return parseAddress(text);
  } catch {
    return undefined;
  }
}

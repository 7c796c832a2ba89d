/** `MILLRACE_SEED` plays a random test again; else each run tries something new. */
export function seedFromEnvironment(): number {
  const given = process.env["MILLRACE_SEED"];
  return given === undefined ? randomSeed() : Number(given);
}

export function randomSeed(): number {
  return Math.floor(Math.random() * 2 ** 31);
}

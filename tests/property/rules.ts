import {
  byId,
  type Edge,
  type Job,
  type JobFacts,
  type Lease,
  type Model,
  type Run,
} from "./model.ts";

/** How a worker ends an attempt. */
export interface Settlement {
  readonly outcome: "completed" | "failed" | "snoozed" | "released" | "discarded" | "cancelled";
  readonly retryable?: boolean | undefined;
  readonly delayMs?: number | undefined;
}

/** A job with its edges, before it is known what becomes of it. */
export interface NewJob {
  readonly facts: JobFacts;
  readonly parents: readonly string[];
  readonly runAnyway: boolean;
}

/** Jobs of one call: edges on earlier jobs of the call always wait, others look at the parent. */
export function enqueue(model: Model, made: readonly NewJob[]): void {
  const own = new Set(made.map(({ facts }) => facts.id));
  const doomed: string[] = [];
  for (const { facts, parents, runAnyway } of made) {
    const verdicts = [...new Set(parents)].map((parent) => ({
      edge: { parent, child: facts.id, runAnyway },
      verdict: own.has(parent) ? "wait" : weigh(model, parent, runAnyway),
    }));
    model.edges.push(...verdicts.filter((one) => one.verdict === "wait").map((one) => one.edge));
    const isBlocked = verdicts.some((one) => one.verdict !== "done");
    const isFuture = facts.scheduledAt !== null && facts.scheduledAt > model.now;
    if (verdicts.some((one) => one.verdict === "doomed")) doomed.push(facts.id);
    model.jobs.set(facts.id, {
      ...facts,
      status: isBlocked ? "blocked" : isFuture ? "scheduled" : "pending",
      attempts: 0,
      crashes: 0,
      at: (isBlocked || isFuture ? facts.scheduledAt : null) ?? model.now,
      atLeast: undefined,
      cancelRequested: false,
      runs: [],
    });
  }
  for (const id of doomed) buryBlocked(model.job(id));
  cascade(model, doomed);
}

function weigh(model: Model, parent: string, runAnyway: boolean): "wait" | "done" | "doomed" {
  const { status } = model.job(parent);
  if (status === "completed") return "done";
  if (status === "failed" || status === "cancelled") return runAnyway ? "done" : "doomed";
  return "wait";
}

/** Scheduled jobs whose time has come stand among the pending ones as soon as anybody claims. */
export function promote(model: Model): void {
  for (const job of model.jobs.values()) {
    if (job.status === "scheduled" && job.at <= model.now) job.status = "pending";
  }
}

export function start(model: Model, lease: Lease): void {
  model.leases.set(lease.id, lease);
  model.oldLeases.push(lease);
  for (const [id, attempt] of lease.held) {
    const job = model.job(id);
    job.status = "processing";
    job.attempts = attempt;
  }
}

/** What becomes of the jobs, or undefined for those whose lease was lost; children hear of it afterwards, as in SQL. */
export function settle(
  model: Model,
  items: readonly { lease: string; id: string; how: Settlement }[],
): (Job["status"] | undefined)[] {
  const answers = items.map(({ lease, id, how }) => {
    const live = model.leases.get(lease);
    if (!live?.open.delete(id)) return undefined;
    if (live.open.size === 0) model.leases.delete(live.id);
    return end(model, model.job(id), live, how);
  });
  cascade(
    model,
    items.filter((_, index) => answers[index] !== undefined).map(({ id }) => id),
  );
  return answers;
}

function end(model: Model, job: Job, lease: Lease, how: Settlement): Job["status"] {
  const mayRetry =
    how.outcome === "failed" && (how.retryable ?? true) && job.attempts <= job.maxRetries;
  const to =
    how.outcome === "completed"
      ? "completed"
      : how.outcome === "cancelled" || job.cancelRequested
        ? "cancelled"
        : how.outcome === "released"
          ? "pending"
          : how.outcome === "snoozed" || mayRetry
            ? "scheduled"
            : "failed";
  const hasError = how.outcome === "failed" || how.outcome === "discarded";
  job.runs.push({
    outcome: how.outcome === "discarded" ? "failed" : how.outcome,
    to,
    attempt: job.attempts,
    from: null,
    hasError,
  });
  if (to === "scheduled") delay(model, job, how);
  if (to === "pending") {
    job.at = job.scheduledAt ?? job.createdAt;
    job.crashes = lease.crashes;
  }
  const isGivenBack = how.outcome === "released" || how.outcome === "snoozed";
  if (isGivenBack && to !== "cancelled") job.attempts -= 1;
  finish(model, job, to);
  return to;
}

function delay(model: Model, job: Job, how: Settlement): void {
  const { baseMs, capMs, jitter } = job.backoff;
  const whole = how.delayMs ?? Math.min(baseMs * 2 ** (job.attempts - 1), capMs);
  job.at = model.now + Math.round(whole * 1000);
  job.atLeast =
    how.delayMs === undefined ? model.now + Math.floor(whole * (1 - jitter) * 1000) - 1 : undefined;
  job.crashes = 0;
}

/** Sets a status; a final one writes the dead letter and forgets the wish to cancel. */
function finish(model: Model, job: Job, to: Job["status"]): void {
  job.status = to;
  if (to !== "completed" && to !== "failed" && to !== "cancelled") return;
  job.cancelRequested = false;
  if (to !== "failed") return;
  model.deadLetters.set(job.id, {
    ...job,
    attempts: job.attempts,
    redrives: job.runs.filter((run) => run.outcome === "redriven").length,
    errors: job.runs.filter((run) => run.hasError).length,
    failedAt: model.now,
  });
}

/** Expired leases: a job lost alone is charged with the attempt; what was lost together goes back as suspects. `except`: a worker whose own are left, but for those that it has not accepted. */
export function rescue(model: Model, except?: string): string[] {
  const lost: string[] = [];
  const all = [...model.leases.values()];
  for (const lease of all) {
    if (lease.expiresAt >= model.now) continue;
    if (lease.worker === except && !lease.isOffered) continue;
    model.leases.delete(lease.id);
    const isAlone =
      lease.open.size === 1 &&
      !all.some(
        (other) =>
          other !== lease && other.worker === lease.worker && other.crashes >= lease.crashes,
      );
    for (const id of lease.open) {
      takeBack(model, model.job(id), lease, isAlone);
      lost.push(id);
    }
  }
  for (const lease of all) if (!model.leases.has(lease.id)) lease.open.clear();
  cascade(model, lost);
  return lost;
}

function takeBack(model: Model, job: Job, lease: Lease, isAlone: boolean): void {
  const { isOffered } = lease;
  const isCharged = !isOffered && (isAlone || job.maxRetries === 0);
  const isUsedUp = isCharged && job.attempts > job.maxRetries;
  const to = job.cancelRequested ? "cancelled" : isUsedUp ? "failed" : "pending";
  const outcome = isOffered ? "released" : "lost";
  job.runs.push({ outcome, to, attempt: job.attempts, from: null, hasError: !isOffered });
  if (to === "pending") {
    job.at = job.scheduledAt ?? job.createdAt;
    job.crashes = isOffered ? 0 : lease.crashes + 1;
    if (!isCharged) job.attempts -= 1;
  }
  finish(model, job, to);
}

/** What an operator does to a job that no worker holds. */
export function act(model: Model, job: Job, outcome: Run["outcome"], to: Job["status"]): void {
  const attempt = outcome === "redriven" ? 0 : job.attempts;
  job.runs.push({ outcome, to, attempt, from: job.status, hasError: false });
  if (to === "pending") {
    model.deadLetters.delete(job.id);
    job.at = model.now;
    job.attempts = attempt;
    job.crashes = 0;
    job.status = to;
    return;
  }
  finish(model, job, to);
  cascade(model, [job.id]);
}

/** Tells the children of jobs that ended, and the children of those that are cancelled by it. */
function cascade(model: Model, ids: readonly string[]): void {
  const ended = new Set(ids.filter((id) => isFinal(model.job(id))));
  if (ended.size === 0) return;
  const gone = model.edges.filter((edge) => ended.has(edge.parent));
  model.edges = model.edges.filter((edge) => !ended.has(edge.parent));
  const children = [...new Set(gone.map((edge) => edge.child))].sort(byId);
  const doomed = children.filter((child) =>
    gone.some((edge) => edge.child === child && !isMet(model, edge)),
  );
  for (const id of children) {
    const child = model.job(id);
    if (child.status !== "blocked") continue;
    if (doomed.includes(id)) buryBlocked(child);
    else if (model.openParents(id) === 0) free(model, child);
  }
  cascade(
    model,
    doomed.filter((id) => wasJustBuried(model.job(id))),
  );
}

function isMet(model: Model, edge: Edge): boolean {
  return edge.runAnyway || model.job(edge.parent).status === "completed";
}

function isFinal(job: Job): boolean {
  return job.status === "completed" || job.status === "failed" || job.status === "cancelled";
}

function wasJustBuried(job: Job): boolean {
  return job.status === "cancelled" && job.runs.at(-1)?.from === "blocked";
}

function buryBlocked(job: Job): void {
  job.runs.push({
    outcome: "cancelled",
    to: "cancelled",
    attempt: job.attempts,
    from: "blocked",
    hasError: false,
  });
  job.status = "cancelled";
}

function free(model: Model, job: Job): void {
  job.status = job.at > model.now ? "scheduled" : "pending";
  if (job.status === "pending") job.at = model.now;
}

import { WORKER } from "./template.ts";

/** What is left to do by hand. */
export interface NextStep {
  readonly title: string;
  /** To be typed as they stand, but for what is in angle brackets. */
  readonly commands: readonly string[];
}

/** From written files to a queue that works; docs/supabase.md tells the same at length. */
export function nextSteps(references: readonly string[]): NextStep[] {
  return [
    {
      title: "Bring the migrations into the database",
      commands: ["npx supabase link --project-ref <ref>", "npx supabase db push"],
    },
    {
      title: "Set the secrets of the functions",
      commands: [
        "WORKER_TOKEN=$(openssl rand -hex 32); echo $WORKER_TOKEN",
        [
          "npx supabase secrets set QUEUE_WORKER_TOKEN=$WORKER_TOKEN",
          "QUEUE_CALLBACK_SECRET=$(openssl rand -hex 32)",
          "QUEUE_SIGNING_SECRETS=whsec_$(openssl rand -base64 32)",
          "QUEUE_DB_URL='<connection string of the transaction pooler, port 6543>'",
        ].join(" \\\n  "),
      ],
    },
    {
      title: "Deploy",
      commands: [
        `npx supabase functions deploy ${[WORKER, ...references].join(" ")} --no-verify-jwt`,
      ],
    },
    { title: "Set up the doorbell, in the SQL editor", commands: [DOORBELL] },
    {
      title: "See whether all is well",
      commands: ["npx millrace doctor --database-url '<connection string of the database>'"],
    },
  ];
}

const DOORBELL = `create extension if not exists pg_cron;
create extension if not exists pg_net;
select vault.create_secret('https://<ref>.supabase.co/functions/v1/${WORKER}', 'queue_worker_url');
select vault.create_secret('<the token>', 'queue_worker_token');
select queue.install_cron();`;

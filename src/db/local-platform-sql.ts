/**
 * Stands in for pg_net: what a caller of `net.http_post` sees is the same, names, columns and defaults. No worker of Postgres sends the
 * requests but a loop outside of it (`src/local/net-pump.ts`), which the trigger wakes after commit.
 *
 * Locks: none beyond those of the rows. Nothing of it is open to PUBLIC, because headers hold tokens.
 */
export const NET_STAND_IN = `
  create schema net;
  comment on schema net is 'Stands in for pg_net on a local Postgres; made by Millrace.';

  create domain net.http_method as text check (value in ('GET', 'POST', 'DELETE'));
  comment on domain net.http_method is 'The methods that pg_net knows.';

  create unlogged table net.http_request_queue (
    id bigint generated always as identity primary key,
    method net.http_method not null,
    url text not null,
    headers jsonb,
    body bytea,
    timeout_milliseconds integer not null
  );
  comment on table net.http_request_queue is 'Requests that wait to be sent; the row is gone once one is under way.';

  create unlogged table net._http_response (
    id bigint,
    status_code integer,
    content_type text,
    headers jsonb,
    content text,
    timed_out boolean,
    error_msg text,
    created timestamptz not null default clock_timestamp()
  );
  create index _http_response_created_idx on net._http_response (created);
  comment on table net._http_response is 'What became of each request; kept for six hours.';

  create function net.millrace_wake()
  returns trigger
  language plpgsql
  set search_path = ''
  as $$
  begin
    perform pg_catalog.pg_notify('millrace_net', '');
    return null;
  end;
  $$;
  comment on function net.millrace_wake is 'Tells the loop that sends requests that there is one; its existence marks the stand-in.';

  create trigger wake after insert on net.http_request_queue
    for each statement execute function net.millrace_wake();

  create function net._urlencode_string(string text)
  returns text
  language sql
  immutable strict parallel safe
  set search_path = ''
  as $$
    select coalesce(string_agg(
        case when part.letter ~ '[A-Za-z0-9_.~-]' then part.letter
             else regexp_replace(upper(encode(convert_to(part.letter, 'UTF8'), 'hex')), '(..)', '%\\1', 'g')
        end, '' order by part.place), '')
    from regexp_split_to_table(string, '') with ordinality as part (letter, place)
  $$;
  comment on function net._urlencode_string is 'A text as it may stand in a query.';

  create function net.http_post(
    url text,
    body jsonb default '{}',
    params jsonb default '{}',
    headers jsonb default '{"Content-Type": "application/json"}',
    timeout_milliseconds integer default 5000
  )
  returns bigint
  language plpgsql
  volatile
  security definer
  set search_path = ''
  as $$
  declare
    v_type text;
    v_query text;
    v_id bigint;
  begin
    select header.value into v_type
    from jsonb_each_text(coalesce(http_post.headers, '{}')) as header
    where lower(header.key) = 'content-type';
    if v_type is null then
      raise exception 'headers must name "application/json" as Content-Type';
    end if;
    if split_part(lower(v_type), ';', 1) <> 'application/json' then
      raise exception 'Content-Type must be "application/json", not "%"', v_type;
    end if;
    select string_agg(net._urlencode_string(param.key) || '=' || net._urlencode_string(param.value), '&')
      into v_query
    from jsonb_each_text(coalesce(http_post.params, '{}')) as param;
    insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
    values (
      'POST',
      http_post.url || case when v_query is null then '' when strpos(http_post.url, '?') > 0 then '&' else '?' end
        || coalesce(v_query, ''),
      http_post.headers,
      convert_to(http_post.body::text, 'UTF8'),
      http_post.timeout_milliseconds
    )
    returning id into v_id;
    return v_id;
  end;
  $$;
  comment on function net.http_post is 'Has a POST sent after commit; answers its id in net._http_response.';

  revoke execute on all functions in schema net from public;
`;

/**
 * Stands in for Vault: the same functions and view, but the secrets lie open in their table. Fit for a local database only, whose
 * files are its owner's.
 */
export const VAULT_STAND_IN = `
  create schema vault;
  comment on schema vault is 'Stands in for Vault on a local Postgres, without encryption; made by Millrace.';

  create table vault.secrets (
    id uuid primary key default gen_random_uuid(),
    name text unique,
    description text not null default '',
    secret text not null,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
  );
  comment on table vault.secrets is 'Secrets in plain text: this is not the real Vault.';

  create view vault.decrypted_secrets with (security_invoker = true) as
  select secret.id, secret.name, secret.description, secret.secret, secret.secret as decrypted_secret,
         secret.created_at, secret.updated_at
  from vault.secrets as secret;
  comment on view vault.decrypted_secrets is 'Every secret, readable.';

  create function vault.create_secret(new_secret text, new_name text default null, new_description text default '')
  returns uuid
  language sql
  volatile
  set search_path = ''
  as $$
    insert into vault.secrets (secret, name, description) values (new_secret, new_name, new_description) returning id
  $$;
  comment on function vault.create_secret is 'Keeps a secret and answers its id; a name is taken once.';

  create function vault.update_secret(
    secret_id uuid, new_secret text default null, new_name text default null, new_description text default null
  )
  returns void
  language sql
  volatile
  set search_path = ''
  as $$
    update vault.secrets as kept
    set secret = coalesce(new_secret, kept.secret),
        name = coalesce(new_name, kept.name),
        description = coalesce(new_description, kept.description),
        updated_at = clock_timestamp()
    where kept.id = secret_id
  $$;
  comment on function vault.update_secret is 'Changes what is given and leaves the rest.';

  revoke execute on all functions in schema vault from public;
`;

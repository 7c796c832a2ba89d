-- Where pg_cron is there, its jobs are set up at once; else queue.install_cron() does it later. It comes last, because a job may
-- run as soon as this is committed.

do $$
declare
  v_answer jsonb;
begin
  if to_regnamespace('cron') is null then
    return;
  end if;
  v_answer := queue.install_cron();
  if v_answer -> 'left_out' <> '[]' then
    raise notice 'jobs of pg_cron that were left out: %', v_answer -> 'left_out';
  end if;
exception
  when others then
    raise notice 'no job of pg_cron was set up: %; call queue.install_cron() when that is mended', sqlerrm;
end;
$$;

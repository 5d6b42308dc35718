-- The append as each kind of process may call it: a database role of its own gets the right to one of these, and to
-- `rota_append` itself only whoever may write anything (`rota_app`).
--   rota_append_as_leader    under a term, and never what only executors know
--   rota_append_as_store     without a term, and never what only executors or a leader know
--   rota_append_as_executor  how attempts of jobs that exist went, and published events; nothing else

create function rota_refuse_append(reason text) returns void language plpgsql as $$
begin
    raise exception 'append refused: %', reason using errcode = '42501';
end $$;

do $$
declare
    own regprocedure := (select oid from pg_proc where pronamespace = 'public'::regnamespace and proname = 'rota_append');
    given text := (
        select string_agg(name, ', ' order by place)
        from pg_proc, unnest(proargnames, proargmodes) with ordinality as argument (name, mode, place)
        where pg_proc.oid = own and mode = 'i'
    );
    attempts constant text := quote_literal(array[
        'AttemptStarted', 'AttemptSucceeded', 'AttemptFailed', 'ResultRejected', 'ProgressReported']);
    by_executors constant text := quote_literal(array[
        'AttemptStarted', 'AttemptSucceeded', 'AttemptFailed', 'AttemptLost', 'ResultRejected', 'ProgressReported',
        'JobExpired', 'JobCancelled', 'JobDead', 'EventPublished']);
    states constant text := quote_literal(array[
        'running', 'retrying', 'succeeded', 'failed', 'cancelled', 'expired']);
    as_leader constant text := $check$
    if fence is null then
        perform rota_refuse_append('a leader writes under its term');
    elsif e_type && %1$s::text[] then
        perform rota_refuse_append('only executors say how attempts went');
    end if;
    $check$;
    as_store constant text := $check$
    if fence is not null then
        perform rota_refuse_append('a store has no term');
    elsif e_type && (%1$s::text[] || '{AttemptLost,JobDead,LeaderElected}'::text[]) then
        perform rota_refuse_append('only executors and leaders say how attempts went, and who leads');
    end if;
    $check$;
    as_executor constant text := $check$
    if fence is not null then
        perform rota_refuse_append('an executor has no term');
    elsif not e_type <@ %2$s::text[] then
        perform rota_refuse_append('an executor says how attempts went, and publishes events');
    elsif cardinality(ji_id) + cardinality(su_id) + cardinality(ri_id) + cardinality(ru_id)
          + cardinality(d_predecessor) > 0 then
        perform rota_refuse_append('an executor makes no jobs, and changes no schedules, queues and the like');
    elsif not ju_state <@ %3$s::text[] or array_remove(ju_lane, null) <> '{}' then
        perform rota_refuse_append('an executor dispatches nothing');
    elsif exists (
        select from unnest(e_stream, e_type) as event (stream, type)
        where type = 'EventPublished' and stream not in (select unnest(si_id))
    ) or exists (
        select from unnest(e_stream, e_type) as event (stream, type)
        where type <> 'EventPublished' and stream not in (select unnest(ju_id))
    ) then
        perform rota_refuse_append('an event in a stream of another kind');
    end if;
    $check$;
    kind text;
    checks text;
begin
    for kind, checks in
        select * from (values ('leader', as_leader), ('store', as_store), ('executor', as_executor)) as one
    loop
        execute format(
            'create function rota_append_as_%s(%s) language plpgsql volatile security definer '
            'set search_path = public, pg_temp as $body$ begin %s '
            'select * into base, recorded, conflicts, current_term, managed from rota_append(%s); end $body$',
            kind, pg_get_function_arguments(own), format(checks, attempts, by_executors, states), given
        );
    end loop;
end $$;

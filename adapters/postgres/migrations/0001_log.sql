-- The event log, the heads of its streams, and the only way to write them.
-- Run once by the owner. The application's role can read, and write through functions alone.

create table log_settings (
    only_row boolean primary key default true check (only_row),
    partition_size bigint not null check (partition_size > 0)
);

create table events (
    position bigint not null,
    stream_id uuid not null,
    version integer not null,
    type text not null,
    data json not null,
    meta json not null,
    recorded_at timestamptz not null,
    primary key (position)
) partition by range (position);

create index events_by_stream on events (stream_id, version);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'events are never changed or deleted' using errcode = '42501';
end $$;

create trigger events_are_append_only before update or delete on events
    for each row execute function refuse_change();
create trigger events_are_not_truncated before truncate on events
    for each statement execute function refuse_change();

-- Makes the partition that holds `from_position` and `ahead` further ones. Safe to call at any time, by anybody.
create function rota_ensure_partitions(from_position bigint, ahead integer) returns integer
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    size bigint := (select partition_size from log_settings);
    number bigint;
    made integer := 0;
begin
    for number in from_position / size .. from_position / size + ahead loop
        if to_regclass('events_p' || number) is null then
            perform pg_advisory_xact_lock(7010203);
            if to_regclass('events_p' || number) is null then
                execute format('create table events_p%s partition of events for values from (%s) to (%s)',
                               number, number * size, (number + 1) * size);
                execute format('create trigger events_are_not_truncated before truncate on events_p%s '
                               'for each statement execute function refuse_change()', number);
                made := made + 1;
            end if;
        end if;
    end loop;
    return made;
end $$;

-- The current status of every job; `version` is its stream's. Updates touch no indexed column on the usual
-- path, so that PostgreSQL can keep them on the page (HOT): hence the fill factor and no index on state.
create table jobs (
    id uuid primary key,
    version integer not null,
    position bigint not null,
    first_position bigint not null,
    state text not null,
    attempt integer not null,
    queue text not null,
    priority text not null,
    task text not null,
    tags jsonb not null,
    submitted_at timestamptz not null,
    changed_at timestamptz not null,
    due_at timestamptz
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_limit = 2000);

create unique index jobs_by_submission on jobs (first_position desc);
create index jobs_by_due on jobs (due_at) where due_at is not null;

create table streams (
    id uuid primary key,
    version integer not null,
    position bigint not null
);

create table leadership (
    only_row boolean primary key default true check (only_row),
    term bigint not null,
    node text not null,
    since timestamptz not null
);

-- Enters a new leader's term; false when it is not greater than the one in force.
create function rota_enter_term(new_term bigint, new_node text) returns boolean
language plpgsql volatile security definer set search_path = public, pg_temp as $$
begin
    insert into leadership (term, node, since) values (new_term, new_node, clock_timestamp())
    on conflict (only_row) do update set term = excluded.term, node = excluded.node, since = excluded.since
        where leadership.term < excluded.term;
    return found;
end $$;

-- Appends units to the log, all of them or none.
--   ji_*  new jobs, ju_* jobs that exist, si_* new other streams, su_* other streams that exist;
--   *_offset is the place (from 1) of the stream's last event among the events, ji_first of its first one;
--   e_*   the events in order.
-- Answers the position before the first event, or the streams that are not at their expected version; then
-- nothing was written and the caller leaves those units out.
create function rota_append(
    fence bigint,
    ji_id uuid[], ji_version integer[], ji_offset integer[], ji_first integer[], ji_state text[], ji_attempt integer[],
    ji_queue text[], ji_priority text[], ji_task text[], ji_tags text[], ji_due timestamptz[],
    ju_id uuid[], ju_expected integer[], ju_version integer[], ju_offset integer[], ju_state text[],
    ju_attempt integer[], ju_due timestamptz[],
    si_id uuid[], si_version integer[], si_offset integer[],
    su_id uuid[], su_expected integer[], su_version integer[], su_offset integer[],
    e_stream uuid[], e_version integer[], e_type text[], e_data text[], e_meta text[],
    out base bigint, out recorded timestamptz, out conflicts uuid[], out current_term bigint
) language plpgsql volatile security definer set search_path = public, pg_temp set lock_timeout = '20s' as $$
declare
    at timestamptz;
    last_at timestamptz;
    touched integer;
    size bigint;
begin
    -- One append at a time numbers its events; the lock ends after the commit is visible, so the next one sees it.
    perform pg_advisory_xact_lock(7010201);
    if fence is not null then
        select term into current_term from leadership for share;
        if current_term > fence then
            return;
        end if;
        current_term := null;
    end if;

    select e.position, e.recorded_at into base, last_at from events e order by e.position desc limit 1;
    base := coalesce(base, 0);
    at := greatest(clock_timestamp(), last_at);

    begin
        if cardinality(ji_id) > 0 then
            insert into jobs (id, version, position, first_position, state, attempt, queue, priority, task, tags,
                              submitted_at, changed_at, due_at)
            select id, version, base + last, base + first, state, attempt, queue, priority, task, tags::jsonb, at, at, due
            from unnest(ji_id, ji_version, ji_offset, ji_first, ji_state, ji_attempt, ji_queue, ji_priority, ji_task,
                        ji_tags, ji_due)
                as new (id, version, last, first, state, attempt, queue, priority, task, tags, due);
        end if;
        if cardinality(ju_id) > 0 then
            update jobs set version = new.version, position = base + new.last, state = new.state,
                            attempt = new.attempt, due_at = new.due, changed_at = at
            from unnest(ju_id, ju_expected, ju_version, ju_offset, ju_state, ju_attempt, ju_due)
                as new (id, expected, version, last, state, attempt, due)
            where jobs.id = new.id and jobs.version = new.expected;
            get diagnostics touched = row_count;
            if touched <> cardinality(ju_id) then
                raise exception 'a job moved' using errcode = 'RT409';
            end if;
        end if;
        if cardinality(si_id) > 0 then
            insert into streams (id, version, position)
            select id, version, base + last from unnest(si_id, si_version, si_offset) as new (id, version, last);
        end if;
        if cardinality(su_id) > 0 then
            update streams set version = new.version, position = base + new.last
            from unnest(su_id, su_expected, su_version, su_offset) as new (id, expected, version, last)
            where streams.id = new.id and streams.version = new.expected;
            get diagnostics touched = row_count;
            if touched <> cardinality(su_id) then
                raise exception 'a stream moved' using errcode = 'RT409';
            end if;
        end if;
    exception when unique_violation or sqlstate 'RT409' then
        conflicts := array(
            select id from unnest(ji_id) as new (id) where exists (select from jobs where jobs.id = new.id)
            union all
            select id from unnest(si_id) as new (id) where exists (select from streams where streams.id = new.id)
            union all
            select new.id from unnest(ju_id, ju_expected) as new (id, expected) left join jobs using (id)
            where jobs.version is distinct from new.expected
            union all
            select new.id from unnest(su_id, su_expected) as new (id, expected) left join streams using (id)
            where streams.version is distinct from new.expected
        );
        base := null;
        return;
    end;

    -- Partitions are made ahead; this is the net below that.
    size := (select partition_size from log_settings);
    if to_regclass('events_p' || (base + cardinality(e_stream)) / size) is null then
        perform rota_ensure_partitions(base + 1, ((base + cardinality(e_stream)) / size - base / size)::integer + 1);
    end if;

    insert into events (position, stream_id, version, type, data, meta, recorded_at)
    select base + place, stream_id, version, type, data::json, meta::json, at
    from unnest(e_stream, e_version, e_type, e_data, e_meta)
        with ordinality as new (stream_id, version, type, data, meta, place);

    recorded := at;
    perform pg_notify('rota_log', (base + cardinality(e_stream))::text);
end $$;

create table checkpoints (
    name text primary key,
    position bigint not null
);

-- Projection of the leader: the attempts that run, and how many jobs are queued.
create table running_attempts (
    job_id uuid primary key,
    attempt integer not null,
    version integer not null,
    executor text not null,
    started_at timestamptz not null,
    timeout_seconds double precision
);

create table queue_counts (
    queue text not null,
    priority text not null,
    queued bigint not null,
    primary key (queue, priority)
);

create table members (
    role text not null,
    id text not null,
    info jsonb not null,
    since timestamptz not null default clock_timestamp(),
    beat_at timestamptz not null default clock_timestamp(),
    primary key (role, id)
);

create table job_logs (
    job_id uuid not null,
    attempt integer not null,
    part integer not null,
    stream text not null,
    content text not null,
    written_at timestamptz not null default clock_timestamp(),
    primary key (job_id, attempt, part)
);

create table task_catalog (
    name text primary key,
    options jsonb not null,
    announced_at timestamptz not null default clock_timestamp()
);

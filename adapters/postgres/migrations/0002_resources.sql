-- Schedules, queues, workflows and other streams with a state of their own; lines of waiting jobs; dependencies.

-- The current state of every such stream, changed by the append that changes the stream.
create table resources (
    id uuid primary key,
    version integer not null,
    position bigint not null,
    first_position bigint not null,
    kind text not null,
    name text not null,
    doc jsonb not null,
    active boolean not null,
    due_at timestamptz,
    created_at timestamptz not null,
    changed_at timestamptz not null
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

create unique index resources_by_name on resources (kind, name);
create index resources_by_creation on resources (kind, first_position desc);
create index resources_by_due on resources (kind, due_at) where due_at is not null;
create index resources_managed on resources (name) where kind = 'queue' and active;

-- `lane` and `waits_since` are set only while a job waits in line, so that the usual path changes no indexed column.
alter table jobs add column key text, add column lane text collate "C", add column waits_since bigint,
                 add column origin_id uuid;
create index jobs_by_lane on jobs (lane, waits_since) where lane is not null;
create index jobs_by_origin on jobs (origin_id, first_position) where origin_id is not null;

-- Who waits for whose end. Written by the append, deleted by the leader once nobody waits any more.
create table dependencies (
    predecessor uuid not null,
    dependent uuid not null,
    primary key (predecessor, dependent)
);
create index dependencies_by_dependent on dependencies (dependent);

drop function rota_append(bigint, uuid[], integer[], integer[], integer[], text[], integer[], text[], text[], text[],
text[], timestamptz[], uuid[], integer[], integer[], integer[], text[], integer[], timestamptz[], uuid[], integer[],
integer[], uuid[], integer[], integer[], integer[], uuid[], integer[], text[], text[], text[]);

-- As in 0001, and:
--   ri_* new resources, ru_* resources that exist, d_* who waits for whom.
--   managed: the leader manages these queues, and the caller, who is none, would have dispatched there.
create function rota_append(
    fence bigint,
    ji_id uuid[], ji_version integer[], ji_offset integer[], ji_first integer[], ji_state text[], ji_attempt integer[],
    ji_queue text[], ji_priority text[], ji_task text[], ji_tags text[], ji_due timestamptz[],
    ji_key text[], ji_lane text[], ji_origin uuid[],
    ju_id uuid[], ju_expected integer[], ju_version integer[], ju_offset integer[], ju_state text[],
    ju_attempt integer[], ju_due timestamptz[], ju_lane text[],
    si_id uuid[], si_version integer[], si_offset integer[],
    su_id uuid[], su_expected integer[], su_version integer[], su_offset integer[],
    ri_id uuid[], ri_version integer[], ri_offset integer[], ri_first integer[], ri_kind text[], ri_name text[],
    ri_doc text[], ri_active boolean[], ri_due timestamptz[],
    ru_id uuid[], ru_expected integer[], ru_version integer[], ru_offset integer[], ru_doc text[], ru_active boolean[],
    ru_due timestamptz[],
    d_predecessor uuid[], d_dependent uuid[],
    e_stream uuid[], e_version integer[], e_type text[], e_data text[], e_meta text[],
    out base bigint, out recorded timestamptz, out conflicts uuid[], out current_term bigint,
    out managed text[]
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
    elsif exists (select from resources where kind = 'queue' and active) then
        -- Only the leader dispatches to a queue that it manages. Whoever does not know yet is told so.
        managed := array(
            select distinct asked.queue
            from (
                select queue from unnest(ji_queue, ji_state) as new (queue, state) where state = 'queued'
                union all
                select jobs.queue from unnest(ju_id, ju_state) as new (id, state) join jobs using (id)
                where new.state = 'queued'
            ) as asked
            join resources on resources.kind = 'queue' and resources.active and resources.name = asked.queue
        );
        if cardinality(managed) > 0 then
            return;
        end if;
        managed := null;
    end if;

    select e.position, e.recorded_at into base, last_at from events e order by e.position desc limit 1;
    base := coalesce(base, 0);
    at := greatest(clock_timestamp(), last_at);

    begin
        if cardinality(ji_id) > 0 then
            insert into jobs (id, version, position, first_position, state, attempt, queue, priority, task, tags,
                              submitted_at, changed_at, due_at, key, lane, waits_since, origin_id)
            select id, version, base + last, base + first, state, attempt, queue, priority, task, tags::jsonb, at, at, due,
                   key, lane, case when lane is not null then base + last end, origin
            from unnest(ji_id, ji_version, ji_offset, ji_first, ji_state, ji_attempt, ji_queue, ji_priority, ji_task,
                        ji_tags, ji_due, ji_key, ji_lane, ji_origin)
                as new (id, version, last, first, state, attempt, queue, priority, task, tags, due, key, lane, origin);
        end if;
        if cardinality(ju_id) > 0 then
            update jobs set version = new.version, position = base + new.last, state = new.state,
                            attempt = new.attempt, due_at = new.due, changed_at = at, lane = new.lane,
                            waits_since = case when new.lane is not null then base + new.last end
            from unnest(ju_id, ju_expected, ju_version, ju_offset, ju_state, ju_attempt, ju_due, ju_lane)
                as new (id, expected, version, last, state, attempt, due, lane)
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
        if cardinality(ri_id) > 0 then
            insert into resources (id, version, position, first_position, kind, name, doc, active, due_at,
                                   created_at, changed_at)
            select id, version, base + last, base + first, kind, name, doc::jsonb, active, due, at, at
            from unnest(ri_id, ri_version, ri_offset, ri_first, ri_kind, ri_name, ri_doc, ri_active, ri_due)
                as new (id, version, last, first, kind, name, doc, active, due);
        end if;
        if cardinality(ru_id) > 0 then
            update resources set version = new.version, position = base + new.last, doc = new.doc::jsonb,
                                 active = new.active, due_at = new.due, changed_at = at
            from unnest(ru_id, ru_expected, ru_version, ru_offset, ru_doc, ru_active, ru_due)
                as new (id, expected, version, last, doc, active, due)
            where resources.id = new.id and resources.version = new.expected;
            get diagnostics touched = row_count;
            if touched <> cardinality(ru_id) then
                raise exception 'a resource moved' using errcode = 'RT409';
            end if;
        end if;
        if cardinality(d_predecessor) > 0 then
            insert into dependencies (predecessor, dependent)
            select * from unnest(d_predecessor, d_dependent) on conflict do nothing;
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
            union all
            select new.id from unnest(ri_id, ri_kind, ri_name) as new (id, kind, name)
            where exists (select from resources r where r.id = new.id or (r.kind = new.kind and r.name = new.name))
            union all
            select new.id from unnest(ru_id, ru_expected) as new (id, expected) left join resources using (id)
            where resources.version is distinct from new.expected
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

-- The leader's projection: what runs, with whose limits it counts, and what was admitted but has not started.
alter table running_attempts add column queue text, add column priority text, add column key text,
                             add column origin text;

create table admissions (
    job_id uuid primary key,
    queue text not null,
    priority text not null,
    key text,
    position bigint not null
);

create table limit_states (
    queue text not null,
    key text not null,
    state jsonb not null,
    primary key (queue, key)
);

-- What the leader sees of queues, anew every few seconds.
create table queue_flow (
    queue text primary key,
    started_per_minute integer not null,
    ended_per_minute integer not null,
    oldest_position bigint
);

-- Jobs put in by the user's own transactions, on their way into the log; and unique keys that can be forgotten.

-- `place` is the order among committed rows. Nobody but `rota_enqueue` and a retry of a refused row puts one in.
create table inbox (
    id uuid primary key,
    place bigint generated always as identity,
    task text not null,
    args json not null,
    options json not null,
    enqueued_by text not null,
    enqueued_at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
create unique index inbox_by_place on inbox (place);

-- What the store refused, as it was put in, with the problem as HTTP would have answered it.
create table inbox_rejected (
    id uuid primary key,
    place bigint not null,
    task text not null,
    args json not null,
    options json not null,
    enqueued_by text not null,
    enqueued_at timestamptz not null,
    rejected_at timestamptz not null default clock_timestamp(),
    problem json not null
);
create unique index inbox_rejected_by_place on inbox_rejected (place);

-- Puts a job in, within the caller's transaction; answers the id that the job will have.
--   options: the other fields of a job (queue, delay, retry ...), `traceparent` and `correlation_id`.
-- Only sizes and shapes are checked here; what is wrong otherwise is refused by the store, once committed.
create function rota_enqueue(task text, args json default '{}', options json default '{}') returns uuid
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    instant timestamptz := clock_timestamp();
    millis bytea := substring(int8send((extract(epoch from instant) * 1000)::bigint) from 3);
    random bytea := uuid_send(gen_random_uuid());
    -- UUIDv7: the time in front, the version in the upper half of the seventh byte.
    id uuid := encode(set_byte(overlay(random placing millis from 1 for 6), 6, 112 | (get_byte(random, 6) & 15)),
                      'hex')::uuid;
begin
    if task is null or task = '' or octet_length(task) > 200 then
        raise exception 'task: must have 1 to 200 bytes' using errcode = '22023';
    end if;
    if json_typeof(coalesce(args, '{}')) <> 'object' then
        raise exception 'args: must be a JSON object' using errcode = '22023';
    end if;
    if json_typeof(coalesce(options, '{}')) <> 'object' then
        raise exception 'options: must be a JSON object' using errcode = '22023';
    end if;
    if octet_length(args::text) > 262144 then
        raise exception 'args: % bytes as JSON; the limit is 262144', octet_length(args::text) using errcode = '22023';
    end if;
    if octet_length(options::text) > 65536 then
        raise exception 'options: % bytes as JSON; the limit is 65536', octet_length(options::text)
            using errcode = '22023';
    end if;
    if exists (select from json_object_keys(options) as given (name) where name in ('task', 'args', 'idempotency_key'))
    then
        raise exception 'options: must not have task, args or idempotency_key' using errcode = '22023';
    end if;
    insert into inbox (id, task, args, options, enqueued_by, enqueued_at)
    values (id, task, coalesce(args, '{}'), coalesce(options, '{}'), session_user, instant);
    -- A mover that sleeps holds this lock, and has to be woken. While it is awake nobody pays for a notification, which
    -- serialises commits; and it does not fall asleep before the transactions that have seen it awake are over.
    if not pg_try_advisory_xact_lock_shared(7010213) then
        perform pg_notify('rota_inbox', '');
    end if;
    return id;
end $$;
revoke execute on function rota_enqueue(text, json, json) from public;

-- Removes the rows of unique keys that nobody has held for `idle`; how many. Their events stay in the log. Whoever
-- claims such a key again begins a new stream, so a version never comes twice.
create function rota_forget_unique(idle interval, most integer) returns integer
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    forgotten integer;
begin
    if not pg_try_advisory_xact_lock(7010214) then
        return 0;
    end if;
    with free as (
        select r.id from resources r
        where r.kind = 'unique' and r.due_at < clock_timestamp() - idle
          and not exists (
              select from jsonb_array_elements_text(r.doc->'jobs') as holder (id) join jobs j on j.id = holder.id::uuid
              where j.state not in ('succeeded', 'failed', 'cancelled', 'expired')
          )
        order by r.due_at limit most for update of r skip locked
    )
    delete from resources using free where resources.id = free.id;
    get diagnostics forgotten = row_count;
    return forgotten;
end $$;

-- Appends are numbered one at a time under the lock of a table that only its owner may lock. The advisory lock that did
-- this before can be taken by anybody who may connect, and then nothing could be written.
create table append_lock ();

do $$
declare
    own regprocedure;
    definition text;
begin
    -- Whoever appends at this moment ends first. One that waits for the old lock fails on its position, and tries again.
    perform pg_advisory_xact_lock(7010201);
    for own in select oid from pg_proc where pronamespace = 'public'::regnamespace and proname = 'rota_append' loop
        definition := pg_get_functiondef(own);
        if position('perform pg_advisory_xact_lock(7010201);' in definition) = 0 then
            raise exception '% does not take the lock that this migration replaces', own;
        end if;
        execute replace(definition, 'perform pg_advisory_xact_lock(7010201);', 'lock table append_lock in exclusive mode;');
    end loop;
end $$;

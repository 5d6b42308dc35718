-- Partitions are made under the append's lock. Behind the advisory lock that did this before, who had waited for another one's
-- partition did not see it and made it again, which is an error: a lock of a table lets a session see what others have
-- made. Nor can anybody else hold it for good.
do $$
declare
    own regprocedure := 'rota_ensure_partitions(bigint, integer)'::regprocedure;
    definition text := pg_get_functiondef(own);
begin
    if position('perform pg_advisory_xact_lock(7010203);' in definition) = 0 then
        raise exception '% does not take the lock that this migration replaces', own;
    end if;
    execute replace(definition, 'perform pg_advisory_xact_lock(7010203);', 'lock table append_lock in exclusive mode;');
end $$;

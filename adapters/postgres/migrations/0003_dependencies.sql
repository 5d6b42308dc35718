-- Forgets whom these jobs waited for, unless they wait (again): then they are not among the answered ones.
-- A row of `jobs` that an append is changing at the moment is skipped, so that nobody waits for anybody here; while a
-- row is locked the append that would make its job wait again comes behind this deletion, and enters it anew.
create function rota_forget_dependencies(asked uuid[]) returns uuid[]
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    left_behind uuid[];
begin
    left_behind := array(
        select id from jobs where id = any(asked) and not (state = 'waiting' and lane is null) for share skip locked
    );
    delete from dependencies where dependent = any(left_behind);
    return left_behind;
end $$;

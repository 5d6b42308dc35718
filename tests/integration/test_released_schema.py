"""What services of a released version call in the database is there after every later migration, as it was.

A migration comes before the services that need it, so the old ones go on beneath the new schema for as long as the
deploy takes. `released_schema.txt` only ever grows: a release adds what its migrations brought.
"""

from __future__ import annotations

from pathlib import Path

from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.migrate import older_than
from tests.conftest import TestDatabase

RELEASED = Path(__file__).with_name("released_schema.txt")

SCHEMA = """
select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ') returns '
       || pg_get_function_result(p.oid)
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'public' and p.proname like 'rota%'
union all
select 'column ' || table_name || '.' || column_name || ' ' || data_type
from information_schema.columns
where table_schema = 'public' and table_name !~ '^events_' and table_name !~ '^alembic'
"""

NEEDED = """
select 'column ' || table_name || '.' || column_name || ' ' || data_type
from information_schema.columns
where table_schema = 'public' and table_name !~ '^events_' and is_nullable = 'NO' and column_default is null
  and is_identity = 'NO' and is_generated = 'NEVER'
"""


async def test_every_function_and_column_of_a_released_schema_is_still_there(database: TestDatabase) -> None:
    released = set(RELEASED.read_text(encoding="utf-8").splitlines())
    present, needed = await _ask(database, SCHEMA), await _ask(database, NEEDED)
    assert len(released) > 100
    assert sorted(released - present) == []
    old_tables = {line.split()[1].partition(".")[0] for line in released if line.startswith("column ")}
    asked_anew = {line for line in needed - released if line.split()[1].partition(".")[0] in old_tables}
    assert sorted(asked_anew) == [], "services of a released version insert without these"


def test_a_newer_schema_is_good_enough_and_an_older_one_is_not() -> None:
    assert not older_than("0006", "0005")
    assert not older_than("0005", "0005")
    assert older_than("0004", "0005")
    assert older_than(None, "0005")


async def _ask(database: TestDatabase, question: str) -> set[str]:
    found = Database(database.owner_url, application="test")
    try:
        connection = await found.connect_raw()
        try:
            return {row[0] for row in await connection.fetch(question)}
        finally:
            await connection.close()
    finally:
        await found.close()

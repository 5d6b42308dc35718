"""Stores as processes, one killed while it drains the inbox: everything that was committed is a job, each once."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from tests.conftest import TestDatabase
from tests.integration.store.test_process import start
from tests.waiting import until

__all__ = ["start"]

ROWS = 3_000


@pytest.mark.usefixtures("start")
async def test_a_store_killed_while_it_drains_loses_and_repeats_nothing(database: TestDatabase, start: Any) -> None:
    stores = [start(port=0, database_url=database.url, unknown_tasks="accept") for _ in range(2)]
    for store in stores:
        store.url()
    owner = await asyncpg.connect(database.owner_url)
    put = "select rota_enqueue('t', json_build_object('n', n)) from generate_series($1::int, $2::int) n"
    await owner.execute(put.replace("$1::int", "1").replace("$2::int", str(ROWS)))

    async def moved(at_least: int) -> bool:
        return bool(await owner.fetchval("select count(*) >= $1 from jobs", at_least))

    await until(lambda: moved(1), what="the first rows")
    holder = "select application_name from pg_stat_activity join pg_locks using (pid) where objid = 7010212"
    assert await owner.fetchval(holder) == "rota-store"
    stores[0].process.kill()
    stores[0].ended()
    await until(lambda: moved(ROWS), what="the rest, moved by whoever is left")
    await until(lambda: _empty(owner), what="an empty inbox")
    counts = "select count(*), count(distinct stream_id) from events where type = 'JobSubmitted'"
    assert tuple(await owner.fetchrow(counts)) == (ROWS, ROWS)
    assert not await owner.fetchval("select exists (select from inbox_rejected)")
    await owner.close()


async def _empty(connection: Any) -> bool:
    return not await connection.fetchval("select exists (select from inbox)")

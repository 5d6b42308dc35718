"""Faults that earlier systems of this kind had, each looked for here.

Two nodes that both lead because one started alone: `test_zookeeper_faults`. A record that says something else than what
happened: `test_the_head_row_is_the_fold_of_the_stream` and the drills in `tests/chaos`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from rota_server.adapters.group_commit import GroupCommit
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.adapters.redis.publisher import RedisPublisher
from rota_server.adapters.redis.streams import work_stream
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.job import fold
from rota_server.domain.log import Appended, Meta, Unit
from rota_server.outbox.relay import Relay
from rota_server.outbox.routing import route
from tests.conftest import TestDatabase
from tests.integration.redis_tools import Quiet, empty_redis
from tests.integration.store.conftest import Stores, Submit
from tests.waiting import until

WORK = work_stream("default", "normal")
REFUSE = """
create function refuse_jobs() returns trigger language plpgsql as
    $$ begin raise exception 'no space left on device' using errcode = '53100'; end $$;
create trigger no_more_jobs before insert on jobs for each row execute function refuse_jobs();
"""


@pytest.fixture
async def redis(redis_url: str, stores: Stores) -> AsyncIterator[Redis]:
    """A Redis that a relay fills."""
    log = PostgresEventLog(stores.database)
    async with empty_redis(redis_url) as client:
        relay = Relay(log, RedisPublisher(client, route), PostgresJobIndex(stores.database), Quiet())
        publishing = asyncio.create_task(relay.run())
        try:
            yield client
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            await log.close()


@asynccontextmanager
async def owner(database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_what_the_database_refuses_is_a_failure_and_reaches_no_queue(
    stores: Stores, database: TestDatabase, redis: Redis
) -> None:
    client = await stores.client(change={"commit": GroupCommit(stores.parts.log, give_up_seconds=0.5)})
    async with owner(database) as connection:
        await connection.execute(REFUSE)
        single = await client.post("/v1/jobs", json={"task": "noop"})
        many = await client.post("/v1/jobs/bulk", json=[{"task": "noop"}] * 3)
        assert single.status_code >= 500
        assert many.status_code >= 500 or all(item["status"] >= 500 for item in many.json()["results"])
        assert "id" not in single.json()
        await connection.execute("drop trigger no_more_jobs on jobs")
    accepted = (await client.post("/v1/jobs", json={"task": "noop"})).json()
    await until(lambda: redis.xlen(WORK), what="the accepted job's dispatch")
    assert [entry for entry, _ in await redis.xrange(WORK)] == [f"{accepted['position']}-0".encode()]
    assert accepted["position"] == 1, "something of the refused jobs is in the log"


async def test_the_queue_holds_nothing_that_the_log_does_not_have(stores: Stores, redis: Redis) -> None:
    client = await stores.client()
    ids = set()
    for _ in range(20):
        answers = await asyncio.gather(*(client.post("/v1/jobs", json={"task": "noop"}) for _ in range(5)))
        ids |= {answer.json()["id"] for answer in answers}
        end = await redis.xrevrange(WORK, count=1)
        # Read behind the queue: whatever is in it must have been in the log before.
        assert not end or int(end[0][0].partition(b"-")[0]) <= await stores.parts.log.last_position()
    await until(lambda: _has(redis, len(ids)), what="all dispatches")
    for entry, _ in await redis.xrange(WORK):
        position = int(entry.partition(b"-")[0])
        (event,) = await stores.parts.log.read_raw(type(await stores.parts.log.last_position())(position - 1), 1)
        assert (event.type, str(event.stream_id) in ids) == ("JobSubmitted", True)


async def _has(redis: Redis, count: int) -> bool:
    return bool(await redis.xlen(WORK) == count)


async def test_every_accepted_submission_is_answered_with_the_id_under_which_it_is_found(
    client: httpx.AsyncClient,
) -> None:
    job = {"task": "noop"}
    first = await client.post("/v1/jobs", json=job, headers={"Idempotency-Key": "k"})
    again = await client.post("/v1/jobs", json=job, headers={"Idempotency-Key": "k"})
    lines = await client.post(
        "/v1/jobs/bulk",
        content=b'{"task":"noop"}\n{"task":"noop","idempotency_key":"k2"}\n{"task":"noop","idempotency_key":"k2"}\n',
        headers={"Content-Type": "application/x-ndjson"},
    )
    results = lines.json()["results"]
    assert (first.status_code, again.status_code, [r["status"] for r in results]) == (201, 200, [201, 201, 200])
    assert first.json()["id"] == again.json()["id"]
    assert results[1]["id"] == results[2]["id"]
    for job_id in {first.json()["id"], *(result["id"] for result in results)}:
        assert (await client.get(f"/v1/jobs/{job_id}")).json()["id"] == job_id


async def test_a_job_can_not_be_deleted_and_its_history_outlives_its_row(
    client: httpx.AsyncClient, submit: Submit, database: TestDatabase
) -> None:
    job = await submit()
    await client.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "enough"})
    path = f"/v1/jobs/{job['id']}"
    assert (await client.delete(path)).status_code == 405
    app = await asyncpg.connect(database.url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute("delete from jobs")
    finally:
        await app.close()
    async with owner(database) as connection:
        await connection.execute("delete from jobs where id = $1", UUID(job["id"]))
    types = [event["type"] for event in (await client.get(f"{path}/events")).json()["items"]]
    assert types == ["JobSubmitted", "JobCancelled"]
    read = (await client.get(path)).json()
    assert (read["state"], read["reason"]) == ("cancelled", "enough")


async def test_at_every_step_the_record_says_what_has_happened(
    client: httpx.AsyncClient, submit: Submit, stores: Stores
) -> None:
    job = await submit()
    job_id = UUID(job["id"])
    steps: list[tuple[c.Command, str]] = [
        (c.StartAttempt(executor="e"), "running"),
        (c.SucceedAttempt(attempt=1, executor="e", result=42), "succeeded"),
    ]
    for command, state in steps:
        before = fold(await stores.parts.log.read_stream(job_id))
        assert before is not None
        now = before.changed_at
        meta = Meta(actor="executor:e")
        write, _ = write_for(before, job_id, decide(before, command, now), meta, now)
        unit = Unit(id=UUID(int=before.version), writes=[write], meta=meta)
        assert isinstance((await stores.others.append([unit]))[0], Appended)
        listed: dict[str, Any] = (await client.get("/v1/jobs")).json()["items"][0]
        read = (await client.get(f"/v1/jobs/{job_id}")).json()
        row = (await PostgresJobIndex(stores.database).get([job_id]))[job_id]
        assert (listed["state"], read["state"], row.state) == (state, state, state)
        assert (listed["version"], read["version"]) == (row.version, row.version)
    assert (await client.get(f"/v1/jobs/{job_id}")).json()["result"] == 42

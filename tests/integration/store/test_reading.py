"""Reading jobs: lists, filters, pages, history, output, and the past."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import UUID

import httpx
from uuid_utils.compat import uuid7

from rota_server.adapters.postgres.job_logs import PostgresJobLogs
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.events import AttemptError
from rota_server.domain.jobs.job import fold
from rota_server.domain.log import Meta, Unit
from rota_server.domain.ports.job_logs import LogPart
from tests.integration.store.conftest import Stores, Submit


async def advance(stores: Stores, job_id: str, *commands: c.Command) -> None:
    """Carry out commands as an executor would."""
    stream = UUID(job_id)
    for command in commands:
        job = fold(await stores.parts.log.read_stream(stream))
        assert job is not None
        now, meta = datetime.now(UTC), Meta(actor="executor:e1")
        write, _ = write_for(job, stream, decide(job, command, now), meta, now)
        await stores.others.append([Unit(id=uuid7(), writes=[write], meta=meta)])


START = c.StartAttempt(executor="e1")
SUCCEED = c.SucceedAttempt(attempt=1, executor="e1", result={"sent": True})
FAIL = c.FailAttempt(attempt=1, executor="e1", error=AttemptError(type="ValueError", message="no"), retryable=False)


async def ids(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def test_a_job_reads_as_it_ended(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    done, dead = await submit(), await submit()
    await advance(stores, done["id"], START, SUCCEED)
    await advance(stores, dead["id"], START, FAIL)
    good = (await client.get(f"/v1/jobs/{done['id']}")).json()
    bad = (await client.get(f"/v1/jobs/{dead['id']}")).json()
    assert (good["state"], good["result"], good["error"], good["executor"]) == ("succeeded", {"sent": True}, None, "e1")
    assert (good["attempt"], good["version"]) == (1, 3)
    assert good["submitted_at"] <= good["started_at"] <= good["finished_at"]
    assert (bad["state"], bad["result"]) == ("failed", None)
    assert bad["error"] == {"type": "ValueError", "message": "no", "traceback": None}


async def test_a_job_reads_as_it_was_at_a_position_or_an_instant(
    client: httpx.AsyncClient, stores: Stores, submit: Submit
):
    await submit()
    job = await submit()
    await advance(stores, job["id"], START, SUCCEED)
    events = (await client.get(f"/v1/jobs/{job['id']}/events")).json()["items"]
    for event, state in zip(events, ("queued", "running", "succeeded"), strict=True):
        at_position = await client.get(f"/v1/jobs/{job['id']}?at={event['position']}")
        at_instant = await client.get(f"/v1/jobs/{job['id']}?at={quote(event['recorded_at'])}")
        assert at_position.json()["state"] == at_instant.json()["state"] == state
        assert at_position.json()["version"] == event["version"]
    plain = await client.get(f"/v1/jobs/{job['id']}?at={events[0]['recorded_at']}")
    assert plain.json()["state"] == "queued", "an unescaped + in the query is understood"
    before = await client.get(f"/v1/jobs/{job['id']}?at={job['position'] - 1}")
    assert before.status_code == 404
    assert "at that time" in before.json()["detail"]


async def test_the_history_is_the_stream_page_by_page(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    await submit()
    job = await submit()
    await advance(stores, job["id"], START, SUCCEED)
    whole = (await client.get(f"/v1/jobs/{job['id']}/events")).json()
    assert [e["type"] for e in whole["items"]] == ["JobSubmitted", "AttemptStarted", "AttemptSucceeded"]
    assert [e["version"] for e in whole["items"]] == [1, 2, 3]
    assert {e["stream_id"] for e in whole["items"]} == {job["id"]}
    assert whole["items"][1]["data"]["executor"] == "e1"
    assert whole["items"][1]["meta"]["actor"] == "executor:e1"
    assert (whole["next_cursor"], whole["position"]) == (None, 4)
    first = (await client.get(f"/v1/jobs/{job['id']}/events?limit=2")).json()
    second = (await client.get(f"/v1/jobs/{job['id']}/events?limit=2&cursor={first['next_cursor']}")).json()
    assert first["items"] + second["items"] == whole["items"]
    assert second["next_cursor"] is None


async def test_what_is_no_job_has_no_history(client: httpx.AsyncClient):
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    await client.post("/v1/events", json=event, headers={"content-type": "application/cloudevents+json"})
    (published,) = (await client.get("/v1/events")).json()["items"]
    for path in ("", "/events", "/logs"):
        assert (await client.get(f"/v1/jobs/{published['stream_id']}{path}")).status_code == 404
    assert (await client.post(f"/v1/jobs/{published['stream_id']}/cancel")).status_code == 404


async def test_output_reads_in_order_page_by_page(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    job = await submit()
    assert (await client.get(f"/v1/jobs/{job['id']}/logs")).json()["items"] == []
    parts = [
        LogPart(job_id=UUID(job["id"]), attempt=attempt, part=part, stream="stdout", text=f"{attempt}.{part}\n")
        for attempt in (1, 2)
        for part in (1, 2, 3)
    ]
    await PostgresJobLogs(stores.database).write(parts)
    texts, cursor = [], ""
    while cursor is not None:
        page = (await client.get(f"/v1/jobs/{job['id']}/logs?limit=2{cursor and f'&cursor={cursor}'}")).json()
        texts += [item["text"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert texts == ["1.1\n", "1.2\n", "1.3\n", "2.1\n", "2.2\n", "2.3\n"]
    assert (await client.get(f"/v1/jobs/{job['id']}/logs?cursor=pfffffffffffffff")).json()["items"] == []


async def test_lists_are_filtered_by_everything_the_contract_names(
    client: httpx.AsyncClient, stores: Stores, submit: Submit
):
    a = await submit(queue="mail", tags={"team": "billing", "x": "1:2"})
    b = await submit(task="shell.run", args={"command": ["true"]}, tags={"team": "billing"})
    d = await submit(delay=1000)
    assert await ids(client) == [d["id"], b["id"], a["id"]]
    assert await ids(client, "queue=mail") == [a["id"]]
    assert await ids(client, "task=shell.run") == [b["id"]]
    assert await ids(client, "state=scheduled") == [d["id"]]
    assert await ids(client, "tag=team:billing") == [b["id"], a["id"]]
    assert await ids(client, "tag=team:billing&tag=x:1:2") == [a["id"]]
    assert await ids(client, "tag=team:sales") == []
    assert await ids(client, "schedule=nightly") == []
    assert await ids(client, f"submitted_after={quote(a['submitted_at'])}") == [d["id"], b["id"]]
    assert await ids(client, f"submitted_before={quote(b['submitted_at'])}") == [a["id"]]
    await advance(stores, a["id"], START)
    assert await ids(client, "state=running") == [a["id"]]


async def test_pages_neither_repeat_nor_lose_a_job_while_new_ones_come(client: httpx.AsyncClient, submit: Submit):
    before = [(await submit())["id"] for _ in range(7)]
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (await client.get(f"/v1/jobs?limit=3{cursor and f'&cursor={cursor}'}")).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        await submit()
    assert seen == before[::-1]


async def test_a_list_says_its_position_and_waits_for_at_least(client: httpx.AsyncClient, submit: Submit):
    job = await submit()
    waiting = asyncio.create_task(client.get("/v1/jobs?at_least=2"))
    single = asyncio.create_task(client.get(f"/v1/jobs/{job['id']}?at_least=2"))
    log = asyncio.create_task(client.get("/v1/events?at_least=2"))
    done, _ = await asyncio.wait([waiting, single, log], timeout=0.3)
    assert not done
    second = await submit()
    answer = (await waiting).json()
    assert [item["id"] for item in answer["items"]] == [second["id"], job["id"]]
    assert answer["position"] == 2
    assert (await single).status_code == 200
    assert len((await log).json()["items"]) == 2


async def test_a_position_that_does_not_come_is_told_in_time(stores: Stores):
    client = await stores.client(wait_seconds=0.2)
    answer = await client.get("/v1/jobs?at_least=5")
    assert answer.status_code == 503
    assert answer.json()["field"] == "at_least"
    assert answer.headers["retry-after"]


async def test_head_is_answered_as_get_without_the_body_also_for_the_live_log(stores: Stores, submit: Submit):
    job = await submit()
    async with httpx.AsyncClient(base_url=(await stores.serve()).url) as client:
        for path in ("/v1/jobs", f"/v1/jobs/{job['id']}", "/openapi.json", "/docs"):
            got, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (got.status_code, b"")
            assert head.headers["content-type"] == got.headers["content-type"]
            assert head.headers["content-length"] == got.headers["content-length"]
        missing = await client.head("/v1/nothing")
        assert (missing.status_code, missing.content) == (404, b"")
        live = await client.head("/v1/events/stream")
        assert (live.status_code, live.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


async def test_an_instant_before_the_submission_finds_nothing(client: httpx.AsyncClient, submit: Submit):
    await submit()
    earlier = quote((datetime.now(UTC) - timedelta(days=1)).isoformat())
    assert await ids(client, f"submitted_before={earlier}") == []


async def test_the_log_reads_from_a_position_with_filters(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    job = await submit(headers={"Rota-Correlation-Id": "order-7"})
    await submit()
    await advance(stores, job["id"], START, SUCCEED)

    async def positions(query: str) -> list[int]:
        return [e["position"] for e in (await client.get(f"/v1/events?{query}")).json()["items"]]

    assert await positions("") == [1, 2, 3, 4]
    assert await positions("after=1&limit=2") == [2, 3]
    assert await positions("after=4") == []
    assert await positions("type=JobSubmitted") == [1, 2]
    assert await positions("type=JobSubmitted&after=1") == [2]
    assert await positions(f"stream={job['id']}") == [1, 3, 4]
    assert await positions(f"stream={job['id']}&type=AttemptStarted") == [3]
    assert await positions("correlation=order-7") == [1]
    assert await positions(f"stream={job['id']}&correlation=order-7") == [1]
    (event,) = (await client.get("/v1/events?limit=1")).json()["items"]
    assert set(event) == {"position", "stream_id", "version", "type", "recorded_at", "data", "meta"}


async def test_the_head_rows_and_the_streams_tell_the_same(client: httpx.AsyncClient, stores: Stores, submit: Submit):
    jobs = [await submit() for _ in range(3)]
    await advance(stores, jobs[0]["id"], START, SUCCEED)
    await advance(stores, jobs[1]["id"], START)
    rows = await stores.parts.index.get([UUID(job["id"]) for job in jobs])
    for item in (await client.get("/v1/jobs")).json()["items"]:
        row = rows[UUID(item["id"])]
        assert (row.state, row.version, row.position) == (item["state"], item["version"], Position(item["position"]))

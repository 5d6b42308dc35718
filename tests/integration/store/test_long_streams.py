"""A stream may be of any length: what a request reads of it at once is bounded by its page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from uuid_utils.compat import uuid7

from rota_server.apps import histories
from rota_server.apps.store.events import routes
from rota_server.apps.store.jobs import routes as job_routes
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.events import ProgressReported
from rota_server.domain.jobs.job import fold
from rota_server.domain.log import Meta, Unit
from tests.integration.store.conftest import Stores, Submit
from tests.integration.store.test_reading import START, SUCCEED

REPORTS = 3000
EVENTS = REPORTS + 4


@pytest.fixture
async def long_job(stores: Stores, submit: Submit) -> str:
    """A job that has reported its progress 3,000 times, among others' events."""
    job_id: str = (await submit(tags={"n": "long"}))["id"]
    meta, now = Meta(actor="executor:e1"), datetime.now(UTC)
    reports = [ProgressReported(attempt=1, fraction=n / REPORTS, message=f"{n}") for n in range(REPORTS)]
    for next_events in (START, reports[:1000], reports[1000:], SUCCEED):
        await submit()
        job = fold(await stores.parts.log.read_stream(UUID(job_id)))
        assert job is not None
        events = next_events if isinstance(next_events, list) else decide(job, next_events, now)
        write, _ = write_for(job, job.id, events, meta, now)
        await stores.others.append([Unit(id=uuid7(), writes=[write], meta=meta)])
    return job_id


@pytest.fixture
async def most_rows(stores: Stores, long_job: str) -> list[int]:
    """How many rows each query of the log has read from now on."""
    counts: list[int] = []
    log: Any = stores.parts.log
    for connection in (log._reader, log._searcher):
        fetch = connection.fetch

        async def counted(*arguments: Any, fetch: Any = fetch) -> Any:
            rows = await fetch(*arguments)
            counts.append(len(rows))
            return rows

        connection.fetch = counted
    return counts


async def test_a_page_of_a_stream_reads_no_more_than_the_page(
    client: httpx.AsyncClient, long_job: str, most_rows: list[int]
):
    whole: list[dict[str, Any]] = []
    while True:
        after = whole[-1]["position"] if whole else 0
        page = (await client.get(f"/v1/events?stream={long_job}&limit=700&after={after}")).json()["items"]
        if not page:
            break
        whole += page
    assert [event["version"] for event in whole] == list(range(1, EVENTS - 1 + 1))
    (second,) = (await client.get(f"/v1/events?stream={long_job}&limit=1&after={whole[0]['position']}")).json()["items"]
    assert second["version"] == 2
    found = (await client.get(f"/v1/events?stream={long_job}&type=AttemptSucceeded")).json()["items"]
    assert [event["version"] for event in found] == [len(whole)]
    between = whole[1500]["position"]
    found = (await client.get(f"/v1/events?stream={long_job}&limit=2&after={between}")).json()["items"]
    assert [event["version"] for event in found] == [1502, 1503]
    assert max(most_rows) <= 700


async def test_a_history_has_pages_even_when_nobody_asks_for_them(
    client: httpx.AsyncClient, long_job: str, most_rows: list[int]
):
    versions: list[int] = []
    cursor = ""
    while cursor is not None:
        page = (
            await client.get(f"/v1/jobs/{long_job}/events?limit=100000&cursor={cursor}".removesuffix("&cursor="))
        ).json()
        versions += [event["version"] for event in page["items"]]
        cursor = page["next_cursor"]
    assert versions == list(range(1, EVENTS))
    assert max(most_rows) <= 1000


async def test_a_long_job_is_read_explained_and_found_page_by_page(
    client: httpx.AsyncClient, long_job: str, most_rows: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(histories, "TOGETHER_EVENTS", 1000)
    assert (await client.get(f"/v1/jobs/{long_job}")).json()["state"] == "succeeded"
    middle = (await client.get(f"/v1/events?stream={long_job}&limit=1000")).json()["items"][501]
    then = (await client.get(f"/v1/jobs/{long_job}?at={middle['position']}")).json()
    assert (then["state"], then["progress"]["message"]) == ("running", middle["data"]["message"])
    then = (await client.get(f"/v1/jobs/{long_job}", params={"at": middle["recorded_at"]})).json()
    assert then["state"] == "running"
    assert "succeeded in attempt 1" in (await client.get(f"/v1/jobs/{long_job}/why")).json()["summary"]
    listed = (await client.get("/v1/jobs")).json()["items"]
    assert sorted(job["state"] for job in listed) == ["queued"] * 4 + ["succeeded"]
    answer = await client.post(f"/v1/jobs/{long_job}/cancel")
    assert answer.status_code == 409
    assert max(most_rows) <= 1001


async def test_a_page_ends_where_its_events_have_enough_bytes(
    client: httpx.AsyncClient, submit: Submit, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(routes, "ANSWER_BYTES", 50_000)
    monkeypatch.setattr(job_routes, "EVENTS_BYTES", 1)
    for _ in range(6):
        job = await submit(args={"text": "x" * 20_000})
    for filters, sizes in (("", [3, 3]), ("&type=JobSubmitted", [3, 3]), (f"&stream={job['id']}", [1])):
        after, found = 0, []
        while items := (await client.get(f"/v1/events?after={after}{filters}")).json()["items"]:
            found.append(len(items))
            after = items[-1]["position"]
        assert found == sizes, filters
    await client.post(f"/v1/jobs/{job['id']}/cancel")
    page = (await client.get(f"/v1/jobs/{job['id']}/events")).json()
    assert [event["version"] for event in page["items"]] == [1]
    page = (await client.get(f"/v1/jobs/{job['id']}/events?cursor={page['next_cursor']}")).json()
    assert ([event["version"] for event in page["items"]], page["next_cursor"]) == ([2], None)

"""Unique jobs on a real log: races between stores, every rule against every state, repeats, retries by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

import rota
from rota_server.adapters.group_commit import GroupCommit
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.resource_index import PostgresResourceIndex
from rota_server.adapters.postgres.task_catalog import PostgresTaskCatalog
from rota_server.adapters.postgres.unique_keys import forget_once
from rota_server.apps.cli.main import main
from rota_server.apps.store.jobs.handlers import Jobs
from rota_server.domain.errors import NotUnique
from rota_server.domain.ids import Position
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs import uniqueness
from rota_server.domain.jobs.events import AttemptError, UniqueClaimed
from rota_server.domain.jobs.job import Job, evolve
from rota_server.domain.log import Meta
from tests.integration.store.conftest import Stores

ROOT = Path(__file__).parents[3]
META = Meta(actor="test")
SCOPES = ("queued", "running", "unfinished", 3600)
POLICIES = ("reject", "return", "replace", "keep_latest")


def asking(key: str = "k", while_: str | float = "unfinished", on_conflict: str = "return", **job: Any) -> Any:
    return {"task": "noop", **job, "unique": {"key": key, "while": while_, "on_conflict": on_conflict}}


async def standings(stores: Stores) -> list[dict[str, set[UUID]]]:
    """For every position of the log: who was unfinished, by unique key."""
    jobs: dict[UUID, Job] = {}
    history = []
    for recorded in await stores.parts.log.read(Position(0), 100_000):
        if not isinstance(recorded.event, UniqueClaimed):
            jobs[recorded.stream_id] = evolve(jobs.get(recorded.stream_id), recorded)
        held: dict[str, set[UUID]] = {}
        for job in jobs.values():
            if job.spec.unique is not None and not job.ended:
                held.setdefault(job.spec.unique.key, set()).add(job.id)
        history.append(held)
    return history


async def heads_are_folds(stores: Stores) -> None:
    held: dict[UUID, tuple[UUID, ...]] = {}
    for recorded in await stores.parts.log.read(Position(0), 100_000):
        if isinstance(recorded.event, UniqueClaimed):
            held[recorded.stream_id] = uniqueness.evolve(held.get(recorded.stream_id, ()), recorded.event)
    rows = await stores.parts.resources.get(list(held))
    assert {row.id: uniqueness.holders_of(row.doc) for row in rows.values()} == held


@pytest.fixture
def jobs(stores: Stores) -> Jobs:
    return Jobs(stores.parts)


def player(stores: Stores) -> Jobs:
    """Changes jobs as whoever may: a store's own rights end where an attempt begins."""
    return Jobs(replace(stores.parts, log=stores.others, commit=GroupCommit(stores.others)))


def second_store(stores: Stores) -> Jobs:
    """Another store over the same database, with connections of its own."""
    database = Database(stores.database.url)
    stores.stack.push_async_callback(database.close)
    log = PostgresEventLog(database)
    stores.stack.push_async_callback(log.close)
    resources = PostgresResourceIndex(database)
    return Jobs(replace(stores.parts, log=log, commit=GroupCommit(log), resources=resources))


To = Callable[[str, UUID], Awaitable[Job]]


@pytest.fixture
def bring(stores: Stores) -> To:
    """Bring a queued or scheduled job into a state, as an executor or a store would."""
    jobs = player(stores)

    async def to(state: str, job_id: UUID) -> Job:
        steps: dict[str, tuple[c.Command, ...]] = {
            "queued": (),
            "scheduled": (),
            "running": (c.StartAttempt(executor="e"),),
            "retrying": (c.StartAttempt(executor="e"), failure(retryable=True)),
            "failed": (c.StartAttempt(executor="e"), failure(retryable=False)),
            "succeeded": (c.StartAttempt(executor="e"), c.SucceedAttempt(attempt=1, executor="e", result=None)),
            "cancelled": (c.RequestCancel(),),
        }
        job = await jobs.get(job_id)
        for command in steps[state]:
            job = await jobs.act(job_id, command, META)
        assert job.state == state
        return job

    return to


def failure(*, retryable: bool) -> c.FailAttempt:
    error = AttemptError(type="ValueError", message="no")
    return c.FailAttempt(attempt=1, executor="e", error=error, retryable=retryable)


@pytest.mark.parametrize("policy", POLICIES)
async def test_eight_at_once_over_two_stores_never_have_two_unfinished_jobs(stores: Stores, policy: str) -> None:
    two = [Jobs(stores.parts), second_store(stores)]
    answers: list[Any] = []

    async def submit(number: int) -> None:
        store = two[number % 2]
        for _ in range(6):
            try:
                answer = await store.submit(asking(on_conflict=policy), None, META)
            except NotUnique as error:
                answers.append(error)
                continue
            answers.append(answer)
            if answer.created and number % 4 == 0:
                # Some end their jobs, so that the key becomes free in the middle of the race.
                await asyncio.gather(store.act(answer.job.id, c.RequestCancel(), META), return_exceptions=True)

    await asyncio.gather(*(submit(number) for number in range(8)))
    history = await standings(stores)
    assert max(len(held.get("k", ())) for held in history) == 1
    assert len(answers) == 48
    created = {answer.job.id for answer in answers if not isinstance(answer, NotUnique) and answer.created}
    claimed = [
        UUID(recorded.event.job)
        for recorded in await stores.parts.log.read(Position(0), 100_000)
        if isinstance(recorded.event, UniqueClaimed)
    ]
    assert sorted(claimed, key=str) == sorted(created, key=str)
    if policy in ("replace", "keep_latest"):
        assert len(created) == 48
    await heads_are_folds(stores)


async def test_many_keys_at_once_are_told_apart(stores: Stores) -> None:
    two = [Jobs(stores.parts), second_store(stores)]
    requests = [asking(f"k{number % 30}") for number in range(300)]
    answers = await asyncio.gather(*(two[n % 2].submit(request, None, META) for n, request in enumerate(requests)))
    assert sum(answer.created for answer in answers) == 30
    for number, answer in enumerate(answers):
        assert answer.job.spec.unique is not None
        assert answer.job.spec.unique.key == f"k{number % 30}"
    assert max(len(held) for key in (await standings(stores))[-1:] for held in key.values()) == 1
    await heads_are_folds(stores)


@pytest.mark.parametrize("state", ["queued", "scheduled", "running", "retrying", "failed", "succeeded", "cancelled"])
@pytest.mark.parametrize("scope", SCOPES)
async def test_every_policy_when_a_job_in_this_state_holds_the_key(
    client: httpx.AsyncClient, stores: Stores, bring: To, scope: str | float, state: str
) -> None:
    waits = state in ("queued", "scheduled", "retrying")
    taken = {"queued": waits, "running": state == "running", "unfinished": waits or state == "running", 3600: True}
    for policy in POLICIES:
        key = f"{policy}"
        delay = {"delay": 3000} if state == "scheduled" else {}
        first = await client.post("/v1/jobs", json=asking(key, scope, policy, **delay))
        assert first.status_code == 201
        held = await bring(state, UUID(first.json()["id"]))
        answer = await client.post("/v1/jobs", json=asking(key, scope, policy))
        body = answer.json()
        if not taken[scope]:
            assert (answer.status_code, body["state"]) == (201, "queued")
        elif policy == "reject":
            assert (answer.status_code, body["job"], body["field"]) == (409, str(held.id), "unique.key")
        elif policy == "return":
            assert (answer.status_code, body["id"]) == (200, str(held.id))
        elif held.ended:
            assert (answer.status_code, body["state"]) == (201, "queued")
        else:
            assert (answer.status_code, body["state"]) == (201, "waiting" if state == "running" else "queued")
            after = (await client.get(f"/v1/jobs/{held.id}")).json()
            if waits:
                assert (after["state"], after["reason"]) == ("cancelled", f"replaced by job {body['id']}")
                (last,) = (await client.get(f"/v1/jobs/{held.id}/events")).json()["items"][-1:]
                assert last["data"]["cause"] == "replaced"
            else:
                assert after["cancel_requested"] is (policy == "replace")
                assert await stores.parts.index.dependents([held.id]) == [(held.id, UUID(body["id"]))]
    await heads_are_folds(stores)


async def test_keep_latest_has_one_running_and_one_pending(client: httpx.AsyncClient, bring: To) -> None:
    running = (await client.post("/v1/jobs", json=asking(on_conflict="keep_latest"))).json()
    await bring("running", UUID(running["id"]))
    later = [(await client.post("/v1/jobs", json=asking(on_conflict="keep_latest"))).json() for _ in range(3)]
    states = [(await client.get(f"/v1/jobs/{job['id']}")).json()["state"] for job in (running, *later)]
    assert states == ["running", "cancelled", "cancelled", "waiting"]


async def test_a_unique_job_reads_with_its_rule(client: httpx.AsyncClient) -> None:
    for rule in ({"key": "a", "while": 30, "on_conflict": "reject"}, {"key": "b"}):
        job = (await client.post("/v1/jobs", json={"task": "noop", "unique": rule})).json()
        assert job["unique"] == {"while": "unfinished", "on_conflict": "return", **rule}


async def test_without_a_key_the_task_and_its_arguments_are_the_key(client: httpx.AsyncClient) -> None:
    async def submit(**args: Any) -> tuple[int, str]:
        answer = await client.post("/v1/jobs", json={"task": "noop", "args": args, "unique": {}})
        return answer.status_code, answer.json()["id"]

    one, two = await submit(a=1, b=2), await submit(a=2)
    assert (one[0], two[0]) == (201, 201)
    assert await submit(b=2, a=1) == (200, one[1])


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"key": ""}, "unique.key"),
        ({"key": "a\nb"}, "unique.key"),
        ({"key": "k", "while": "later"}, "unique.while"),
        ({"key": "k", "while": 0}, "unique.while"),
        ({"key": "k", "while": -1}, "unique.while"),
        ({"key": "k", "while": True}, "unique.while"),
        ({"key": "k", "while": 30 * 24 * 3600 + 1}, "unique.while"),
        ({"key": "k", "on_conflict": "ignore"}, "unique.on_conflict"),
        ({"key": "k", "for": 3}, "unique.for"),
        ("k", "unique"),
    ],
)
async def test_a_wrong_rule_is_refused_with_its_field(client: httpx.AsyncClient, rule: Any, field: str) -> None:
    answer = await client.post("/v1/jobs", json={"task": "noop", "unique": rule})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_a_throttled_key_is_free_again_after_its_seconds(client: httpx.AsyncClient, bring: To) -> None:
    first = (await client.post("/v1/jobs", json=asking(while_=3600, on_conflict="reject"))).json()
    await bring("succeeded", UUID(first["id"]))
    assert (await client.post("/v1/jobs", json=asking(while_=3600, on_conflict="reject"))).status_code == 409
    assert (await client.post("/v1/jobs", json=asking(while_=0.000001, on_conflict="reject"))).status_code == 201


async def test_debouncing_leaves_the_last_of_a_burst(client: httpx.AsyncClient) -> None:
    burst = [asking(while_="queued", on_conflict="replace", delay=30, args={"n": n}) for n in range(5)]
    ids = [(await client.post("/v1/jobs", json=job)).json()["id"] for job in burst]
    states = [(await client.get(f"/v1/jobs/{job_id}")).json()["state"] for job_id in ids]
    assert states == ["cancelled"] * 4 + ["scheduled"]


async def test_the_idempotency_key_is_looked_at_first(client: httpx.AsyncClient) -> None:
    async def submit(key: str, **job: Any) -> httpx.Response:
        return await client.post("/v1/jobs", json=asking(on_conflict="reject", **job), headers={"Idempotency-Key": key})

    first = await submit("one")
    again, other, changed = await submit("one"), await submit("two"), await submit("one", args={"a": 1})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert (other.status_code, other.json()["code"]) == (409, "not-unique")
    assert (changed.status_code, changed.json()["code"]) == (409, "key-reused")


@pytest.mark.parametrize("policy", POLICIES)
async def test_jobs_of_one_bulk_request_come_one_after_another(
    client: httpx.AsyncClient, stores: Stores, policy: str
) -> None:
    jobs = [asking("a", on_conflict=policy, args={"n": n}) for n in range(60)]
    mixed = [job for n, ours in enumerate(jobs) for job in (ours, {"task": "noop"}, asking(f"b{n}"))]
    results = (await client.post("/v1/jobs/bulk", json=mixed)).json()["results"]
    ours = results[::3]
    assert [result["status"] for result in results[1::3] + results[2::3]] == [201] * 120
    if policy == "reject":
        assert [result["status"] for result in ours] == [201] + [409] * 59
        assert {result["problem"]["job"] for result in ours[1:]} == {ours[0]["id"]}
    elif policy == "return":
        assert [result["status"] for result in ours] == [201] + [200] * 59
        assert {result["id"] for result in ours} == {ours[0]["id"]}
    else:
        assert [result["status"] for result in ours] == [201] * 60
        states = {row.id: row.state for row in (await stores.parts.index.get([UUID(r["id"]) for r in ours])).values()}
        assert [states[UUID(result["id"])] for result in ours] == ["cancelled"] * 59 + ["queued"]
    assert max(len(held) for moment in await standings(stores) for held in moment.values()) == 1
    await heads_are_folds(stores)


async def test_an_ended_job_is_not_retried_beside_another(client: httpx.AsyncClient, bring: To) -> None:
    first = (await client.post("/v1/jobs", json=asking())).json()
    await bring("failed", UUID(first["id"]))
    second = (await client.post("/v1/jobs", json=asking())).json()
    refused = await client.post(f"/v1/jobs/{first['id']}/retry")
    assert (refused.status_code, refused.json()["job"]) == (409, second["id"])
    await client.post(f"/v1/jobs/{second['id']}/cancel")
    assert (await client.post(f"/v1/jobs/{first['id']}/retry")).json()["state"] == "queued"
    held = await client.post("/v1/jobs", json=asking())
    assert (held.status_code, held.json()["id"]) == (200, first["id"])
    assert (await client.post(f"/v1/jobs/{second['id']}/retry")).status_code == 409


async def test_retries_and_submissions_at_once_over_two_stores_leave_one(stores: Stores, jobs: Jobs, bring: To) -> None:
    ended = []
    for _ in range(4):
        ended.append((await jobs.submit(asking(), None, META)).job.id)
        await bring("cancelled", ended[-1])
    two = [jobs, second_store(stores)]
    for round_number in range(5):
        retries = [two[n % 2].act(job_id, c.RetryJob(), META) for n, job_id in enumerate(ended)]
        submissions = [two[n % 2].submit(asking(), None, META) for n in range(4)]
        await asyncio.gather(*retries, *submissions, return_exceptions=True)
        (alive,) = (await standings(stores))[-1]["k"]
        await jobs.act(alive, c.RequestCancel(reason=f"round {round_number}"), META)
    assert max(len(held.get("k", ())) for held in await standings(stores)) == 1
    await heads_are_folds(stores)


async def test_retrying_all_that_match_a_filter_keeps_keys_unique(
    client: httpx.AsyncClient, stores: Stores, bring: To
) -> None:
    for n in range(12):
        job = (await client.post("/v1/jobs", json=asking(f"k{n % 3}"))).json()
        await bring("cancelled", UUID(job["id"]))
    answer = await client.post("/v1/jobs/actions", json={"action": "retry", "filter": {"state": "cancelled"}})
    assert (answer.json()["done"], answer.json()["refused"]) == (3, 9)
    assert {key: len(held) for key, held in (await standings(stores))[-1].items()} == {"k0": 1, "k1": 1, "k2": 1}
    await heads_are_folds(stores)


async def test_jobs_without_a_key_do_not_touch_the_line(stores: Stores, client: httpx.AsyncClient) -> None:
    await client.post("/v1/jobs", json={"task": "noop"})
    await client.post("/v1/jobs/bulk", json=[{"task": "noop"}] * 3)
    events = await stores.parts.log.read(Position(0), 10)
    assert [type(recorded.event).__name__ for recorded in events] == ["JobSubmitted"] * 4


async def test_the_documented_jobs_do_what_is_said(client: httpx.AsyncClient) -> None:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs/unique.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        job = {**json.loads(block), "task": "noop"}  # the document's task is one of its own system
        first, second = [await client.post("/v1/jobs", json=job) for _ in range(2)]
        assert first.status_code == 201
        replaces = json.loads(block)["unique"]["on_conflict"] in ("replace", "keep_latest")
        assert second.status_code == (201 if replaces else 200)


async def test_the_client_and_the_command_line_submit_unique_jobs(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = await stores.serve()
    monkeypatch.setenv("ROTA_URL", server.url)

    def status_of(command: list[str]) -> Any:
        with pytest.raises(SystemExit) as ended:
            main(command)
        return ended.value.code

    def use() -> None:
        rule = {"key": "k", "while": "queued", "on_conflict": "reject"}
        with rota.Client() as client:
            first = client.submit("noop", unique="k")
            assert client.submit("noop", unique={"key": "k"}).id == first.id
            with pytest.raises(rota.Conflict) as refused:
                client.submit("noop", unique=rule)
            assert refused.value.problem["job"] == first.id
            results = client.submit_many([rota.job("noop", unique=rule), rota.job("noop", unique="other")])
            assert [result["status"] for result in results] == [409, 201]
        command = ["submit", "noop", "--unique", "k", "--while", "queued", "--on-conflict", "return"]
        assert status_of(command) == 0
        assert capsys.readouterr().out.strip() == first.id
        assert status_of(["submit", "noop", "--unique", "k", "--while", "3600", "--on-conflict", "reject"]) == 1

    await asyncio.to_thread(use)


async def test_what_a_task_declares_applies_where_the_job_is_silent(client: httpx.AsyncClient, stores: Stores) -> None:
    await PostgresTaskCatalog(stores.database).announce({"alone": {"unique": {"while": "unfinished"}}})

    async def submit(**job: Any) -> int:
        return (await client.post("/v1/jobs", json={"task": "alone", **job})).status_code

    assert [await submit(), await submit(), await submit(args={"n": 1})] == [201, 200, 201]
    assert await submit(unique=None) == 201


async def test_a_key_that_nobody_holds_is_forgotten_and_begins_anew(
    client: httpx.AsyncClient, stores: Stores, bring: To
) -> None:
    async def claim(key: str, **rule: Any) -> dict[str, Any]:
        answer = await client.post("/v1/jobs", json=asking(key, **rule))
        assert answer.status_code == 201
        result: dict[str, Any] = answer.json()
        return result

    async def keys() -> dict[str, UUID]:
        rows = await stores.parts.resources.by_name("unique", ["ended", "held", "throttled"])
        return {name: row.id for name, row in rows.items()}

    ended = await claim("ended")
    await claim("held")
    throttled = await claim("throttled", while_=3600)
    for job in (ended, throttled):
        await bring("succeeded", UUID(job["id"]))
    before = await keys()
    assert await forget_once(stores.database, idle=timedelta(days=1)) == 0
    assert await forget_once(stores.database, idle=timedelta(0)) == 1
    assert await keys() == {name: before[name] for name in ("held", "throttled")}
    assert (await client.post("/v1/jobs", json=asking("throttled", 3600))).status_code == 200

    again = await claim("ended")
    assert (await keys())["ended"] != before["ended"]
    assert (await client.post("/v1/jobs", json=asking("ended"))).json()["id"] == again["id"]
    await bring("cancelled", UUID(again["id"]))
    assert await forget_once(stores.database, idle=timedelta(0)) == 1
    assert (await client.post(f"/v1/jobs/{again['id']}/retry")).json()["state"] == "queued"
    assert (await client.post("/v1/jobs", json=asking("ended"))).json()["id"] == again["id"]
    await versions_are_dense(stores)


async def versions_are_dense(stores: Stores) -> None:
    versions: dict[UUID, list[int]] = {}
    for recorded in await stores.parts.log.read(Position(0), 100_000):
        versions.setdefault(recorded.stream_id, []).append(recorded.version)
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())


async def test_forgetting_keys_in_the_middle_of_a_race_leaves_them_unique(stores: Stores) -> None:
    two = [Jobs(stores.parts), second_store(stores)]
    racing = True

    async def forget() -> None:
        while racing:
            await forget_once(stores.database, idle=timedelta(0))

    async def submit(number: int) -> None:
        store = two[number % 2]
        for _ in range(15):
            answer = await store.submit(asking(f"k{number % 3}"), None, META)
            if answer.created:
                await asyncio.gather(store.act(answer.job.id, c.RequestCancel(), META), return_exceptions=True)

    forgetting = asyncio.create_task(forget())
    await asyncio.gather(*(submit(number) for number in range(6)))
    racing = False
    await forgetting
    assert max(len(held) for moment in await standings(stores) for held in moment.values()) == 1
    await versions_are_dense(stores)


async def test_a_unique_job_on_a_queue_that_became_managed_a_moment_ago_waits_in_line(
    client: httpx.AsyncClient, stores: Stores
) -> None:
    other = second_store(stores)
    await other.submit({"task": "noop", "queue": "q"}, None, META)  # knows now that nothing is managed
    changed = await client.patch("/v1/queues/q", json={"concurrency": 1})
    assert changed.status_code == 200
    first = await other.submit(asking(queue="q", on_conflict="replace"), None, META)
    second = await other.submit(asking(queue="q", on_conflict="replace"), None, META)
    assert (first.job.state, second.job.state, second.created) == ("waiting", "waiting", True)
    assert (await other.get(first.job.id)).state == "cancelled"
    await heads_are_folds(stores)


@pytest.mark.parametrize("policy", ["reject", "return", "replace", "keep_latest"])
async def test_under_the_scope_queued_two_that_have_not_started_never_wait_at_once(stores: Stores, policy: str) -> None:
    two = [Jobs(stores.parts), second_store(stores)]
    executor = player(stores)

    async def submit(number: int) -> None:
        store = two[number % 2]
        for _ in range(6):
            with contextlib.suppress(NotUnique):
                answer = await store.submit(asking(while_="queued", on_conflict=policy), None, META)
                if number % 3 == 0 or policy in ("reject", "return"):
                    start = c.StartAttempt(executor="e")
                    await asyncio.gather(executor.act(answer.job.id, start, META), return_exceptions=True)

    await asyncio.gather(*(submit(number) for number in range(8)))
    jobs: dict[UUID, Job] = {}
    for recorded in await stores.parts.log.read(Position(0), 100_000):
        if not isinstance(recorded.event, UniqueClaimed):
            jobs[recorded.stream_id] = evolve(jobs.get(recorded.stream_id), recorded)
        assert sum(job.attempt == 0 and not job.ended for job in jobs.values()) <= 1
    assert any(job.attempt for job in jobs.values())


async def test_of_many_at_once_within_the_seconds_only_one_is_accepted(stores: Stores) -> None:
    two = [Jobs(stores.parts), second_store(stores)]
    request = asking(while_=3600, on_conflict="return")
    answers = await asyncio.gather(*(two[n % 2].submit(request, None, META) for n in range(40)))
    assert sum(answer.created for answer in answers) == 1
    assert len({answer.job.id for answer in answers}) == 1

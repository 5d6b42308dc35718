"""Traces through the whole system of real processes, as a collector sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rota import Client
from rota_server.apps.cli.up import running_system
from tests.otlp import Collector, Seen, collector
from tests.waiting import until_sync

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TASKS = """
from rota import Client, current_job, task


@task(name="traced", retry={"max_attempts": 3, "initial": 0.1})
def traced(fail_until=1):
    if current_job().attempt < fail_until:
        raise RuntimeError("not yet")
    return current_job().traceparent


@task(name="submits")
def submits(url):
    with Client(url) as client:
        return client.submit("traced").id
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("traces")
    for folder in (place, place.parent):
        folder.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def collected(place: Path) -> Iterator[tuple[Collector, Client]]:
    tasks = place / "traced_tasks.py"
    tasks.write_text(TASKS)
    env = {"ROTA_TASK_PROCESSES": "1", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with collector() as found:
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = found.url
        with running_system(place / "data", "--tasks", str(tasks), env=env) as state, Client(state["url"]) as client:
            yield found, client


def spans_of(found: Collector, where: Callable[[Seen], bool], names: list[str]) -> dict[str, Seen]:
    """The spans with these names, each the only one among those that match."""

    def all_there() -> dict[str, Seen] | None:
        matching = [span for span in list(found.spans) if where(span)]
        by_name = {span.name: span for span in matching}
        assert len(by_name) == len(matching), matching
        return by_name if set(names) <= set(by_name) else None

    result: dict[str, Seen] = until_sync(all_there, what=f"the spans {names}")
    assert sorted(result) == sorted(names)
    return result


FIRST = ["POST /v1/jobs", "relay.publish", "job traced", "run traced"]
AGAIN = ["scheduler.dispatch", "relay.publish", "job traced", "run traced"]


def test_a_job_is_one_trace_from_the_callers_request_to_the_task(collected: tuple[Collector, Client]) -> None:
    found, client = collected
    job = client.call("POST", "/v1/jobs", body={"task": "traced"}, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
    spans = spans_of(found, lambda span: span.trace == TRACE, FIRST)
    store, relay, executor, run = (spans[name] for name in FIRST)
    assert store.parent == CALLER
    assert (relay.parent, executor.parent, run.parent) == (store.id, store.id, executor.id)
    assert [s.service for s in (store, relay, executor, run)] == [
        "rota-store",
        "rota-relay",
        "rota-executor",
        "rota-task",
    ]
    until_sync(lambda: client.get(job["id"]).ended, what="the job's end")
    assert client.get(job["id"]).result == f"00-{TRACE}-{run.id}-01"


def test_each_retry_is_a_trace_of_its_own_linked_to_the_submissions(collected: tuple[Collector, Client]) -> None:
    found, client = collected
    job = client.submit("traced", fail_until=3).wait(60)
    origin = job.trace_id
    first = spans_of(found, lambda span: span.trace == origin, FIRST)
    dispatches = until_sync(
        lambda: (
            two if len(two := [s for s in found.named("scheduler.dispatch") if s.links == (origin,)]) == 2 else None
        ),
        what="two dispatches of retries",
    )
    assert len({origin, *(span.trace for span in dispatches)}) == 3
    for dispatch in dispatches:
        spans = spans_of(found, lambda span, trace=dispatch.trace: span.trace == trace, AGAIN)
        assert dispatch.parent == ""
        assert spans["relay.publish"].parent == dispatch.id
        assert spans["job traced"].parent == dispatch.id
        assert spans["job traced"].links == (origin,)
        assert spans["run traced"].parent == spans["job traced"].id
    assert first["job traced"].links == ()


def test_a_retry_by_hand_is_in_the_trace_of_who_asked_and_linked_to_the_submissions(
    collected: tuple[Collector, Client],
) -> None:
    found, client = collected
    job = client.submit("traced", fail_until=2, retry={"max_attempts": 1}).wait(60, raise_on_failure=False)
    client.call("POST", f"/v1/jobs/{job.id}/retry", body={}, headers={"traceparent": f"00-{'ab' * 16}-{CALLER}-01"})
    names = ["POST /v1/jobs/{id}/retry", "relay.publish", "job traced", "run traced"]
    spans = spans_of(found, lambda span: span.trace == "ab" * 16, names)
    assert spans["job traced"].parent == spans[names[0]].id
    assert spans["job traced"].links == (job.trace_id,)


def test_what_a_task_submits_belongs_to_its_trace(collected: tuple[Collector, Client]) -> None:
    found, client = collected
    job = client.submit("submits", url=client.url).wait(60)
    child = client.get(job.result)
    assert child.trace_id == job.trace_id
    run = until_sync(lambda: next(iter(found.named("run submits")), None), what="the task's span")
    until_sync(
        lambda: [s for s in found.named("POST /v1/jobs") if (s.trace, s.parent) == (run.trace, run.id)],
        what="the submission under the task's span",
    )


def test_a_delayed_job_goes_on_in_its_submissions_trace(collected: tuple[Collector, Client]) -> None:
    found, client = collected
    job = client.submit("traced", delay=0.5).wait(60)
    spans = spans_of(found, lambda span: span.trace == job.trace_id, [*FIRST, "scheduler.dispatch"])
    assert spans["scheduler.dispatch"].parent == spans["POST /v1/jobs"].id
    assert spans["job traced"].parent == spans["scheduler.dispatch"].id

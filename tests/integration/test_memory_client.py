"""MemoryClient does what a real client on a real system does: the same calls, the same answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import rota
from rota import Client, Refused, Workflow
from rota.testing import MemoryClient
from rota_server.apps.cli.up import running_system
from tests.integration.memory_tasks import add, fail, fetch, gather, never, twice

Script = Callable[[Any], Any]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("oracle")
    place.parent.chmod(0o755)
    place.chmod(0o755)
    file = place / "memory_tasks.py"
    file.write_text(Path(__file__).with_name("memory_tasks.py").read_text())
    with running_system(place / "data", "--tasks", str(file), env={"ROTA_TASK_PROCESSES": "1"}) as state:
        yield str(state["url"])


def told(job: rota.Job[Any]) -> dict[str, Any]:
    """What is the same wherever it runs."""
    error = job.error and (job.error["type"], job.error["message"])
    return {
        **{name: job.fields[name] for name in ("task", "args", "queue", "priority", "tags", "state", "attempt")},
        "result": job.result,
        "error": error,
        "after": len(job.after or ()),
    }


def ended(handle: Any) -> dict[str, Any]:
    return told(handle.wait(60, raise_on_failure=False))


def group_told(group: rota.Group) -> dict[str, Any]:
    found = {name: group.fields[name] for name in ("name", "state", "total", "counts")}
    if group.kind == "workflow":
        found["jobs"] = {node: (job["state"], job["after"]) for node, job in group.jobs.items()}
    return found


def refusal(call: Callable[[], Any]) -> tuple[int, str | None]:
    with pytest.raises(Refused) as refused:
        call()
    return refused.value.status, refused.value.field


def single_jobs(client: Any) -> Any:
    with client:
        yield ended(add.submit(1, b=2))
        yield ended(add.options(priority="high", tags={"a": "b"}, queue="default").submit(3))
        yield ended(fail.submit("loud"))
        yield ended(twice.submit())
        yield ended(never.submit())
        yield [result["status"] for result in client.submit_many([add.job(1), rota.job("oracle.fetch", url="x")])]
        yield refusal(lambda: client.submit("oracle.fetch", url="x", timeout=3))
        (unclear,) = client.submit_many([rota.job("oracle.fetch", url="x", timeout=3)])
        yield unclear["status"], unclear["problem"]["field"], unclear["problem"]["code"]
        yield ended(fetch.options(timeout=9).submit("x", timeout=3))
        cancelled = client.submit(add, a=1, delay=3600)
        yield cancelled.cancel("no need").state, cancelled.refresh().reason
        yield cancelled.cancel().state
        yield client.retry(cancelled.id).state in ("queued", "running", "succeeded"), ended(cancelled)
        yield refusal(cancelled.cancel)


def waiting_jobs(client: Any) -> Any:
    good, bad = client.submit(add, a=1), client.submit(fail)
    yield ended(client.submit(gather, after=[{"job": good, "name": "good"}]))
    yield ended(client.submit("oracle.add", a={"$result": "good"}, b=4, after=[{"job": good, "name": "good"}]))
    nowhere = {"$result": "good", "path": "x.y"}
    yield ended(client.submit("oracle.add", args={"a": nowhere}, after=[{"job": good, "name": "good"}]))
    left_out = client.submit(gather, after=[{"job": bad, "name": "bad"}])
    yield ended(left_out), left_out.refresh().reason.replace(bad.id, "ID")
    yield ended(client.submit(gather, after=[{"job": bad, "outcome": "failed"}]))
    yield ended(
        client.submit(gather, after=[{"job": bad, "outcome": "ended"}, {"job": good, "name": "g"}], after_mode="any")
    )
    yield ended(client.submit(gather, after=[{"job": good, "name": "g"}, bad], on_failure="run"))
    held = client.submit(gather, after=[bad], on_failure="hold")
    yield held.refresh().state
    client.release(held.id)
    yield ended(held)
    unknown = "00000000-0000-7000-8000-000000000000"
    yield refusal(lambda: client.submit(gather, after=[unknown]))[0]


def workflows(client: Any) -> Any:
    flow = Workflow("sums")
    first = flow.add("first", "oracle.add", a=1, b=2)
    second = flow.add("second", "oracle.add", a=first.result(), b=10, after=[first])
    flow.add("alert", gather, after=[{"job": second, "outcome": "failed"}])
    handle = client.submit_workflow(flow)
    yield group_told(handle.wait(60))
    yield told(handle.job("second").wait(60))
    plain = Workflow("plain")
    plain.add("a", add, args={"a": 1})
    succeeded = client.submit_workflow(plain)
    yield group_told(succeeded.wait(60))
    yield refusal(succeeded.retry)[0]
    yield refusal(succeeded.cancel)[0]
    broken = Workflow("broken")
    broken.add("a", fail)
    broken.add("b", add, args={"a": 1}, after=["a"])
    failed = client.submit_workflow(broken)
    yield group_told(failed.wait(60, raise_on_failure=False))
    failed.retry()
    yield group_told(failed.wait(60, raise_on_failure=False))
    handle.retry()
    yield group_told(handle.wait(60))
    later = Workflow("later")
    later.add("a", add, args={"a": 1}, delay=3600)
    cancelled = client.submit_workflow(later)
    yield cancelled.refresh().state
    cancelled.cancel("no need")
    yield group_told(cancelled.wait(60, raise_on_failure=False))
    circle = {"name": "c", "jobs": {n: {"task": "oracle.twice", "after": [o]} for n, o in (("a", "b"), ("b", "a"))}}
    yield refusal(lambda: client.submit_workflow(circle))[0]
    unclear = Workflow("unclear")
    unclear.add("a", "oracle.fetch", url="x", timeout=2)
    yield refusal(lambda: client.submit_workflow(unclear))


def batches(client: Any) -> Any:
    batch = client.submit_batch([add.job(n) for n in range(3)], then=gather.job(), name="b")
    yield group_told(batch.wait(60))
    yield told(batch.job("then").wait(60))
    mixed = client.submit_batch([add.job(1), fail.job()], then={**gather.job(), "after": ["batch"]})
    yield group_told(mixed.wait(60, raise_on_failure=False))
    yield mixed.job("then").wait(60, raise_on_failure=False).state


def schedules(client: Any) -> Any:
    made = client.schedules.create("sums", add.job(1, b=1), cron="15 2 * * *", timezone="Europe/Berlin", overlap="skip")
    yield made.name, made.state
    yield refusal(lambda: client.schedules.create("sums", add.job(1), every=60))
    yield refusal(lambda: client.schedules.create("x", {**add.job(1), "delay": 5}, every=60))[0]
    yield [t["utc"] for t in client.schedules.preview("sums", after="2027-03-26T00:00:00Z", count=5)]
    yield [t["utc"] for t in client.schedules.preview(every=900, after="2027-03-26T00:07:00Z", count=2)]
    yield ended(client.handle(client.schedules.run("sums")))
    yield client.schedules.pause("sums", "holidays").state, client.schedules.get("sums").reason
    yield client.schedules.resume("sums").state
    yield client.schedules.change("sums", cron="0 9 * * mon").state
    yield [t["utc"] for t in client.schedules.preview("sums", after="2027-03-26T00:00:00Z", count=2)]
    yield client.schedules.archive("sums").state
    yield refusal(lambda: client.schedules.get("there-is-none"))[0]


SCRIPTS = (single_jobs, waiting_jobs, workflows, batches, schedules)


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.__name__ for script in SCRIPTS])
def test_the_same_calls_have_the_same_answers(url: str, script: Script) -> None:
    with closing(Client(url)) as client:
        for number, (real, memory) in enumerate(zip(script(client), script(MemoryClient()), strict=True)):
            assert memory == real, f"answer {number}"

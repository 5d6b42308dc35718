"""The package `rota` as its users have it: both clients against a real system, and tasks on the oldest Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import rota
from rota import (
    AsyncClient,
    Client,
    Conflict,
    GroupFailed,
    JobFailed,
    NotAllowed,
    NotFound,
    Refused,
    Unreachable,
    WaitTimeout,
    Workflow,
    task,
)
from rota_server.apps.cli.main import main
from rota_server.apps.cli.up import running_system
from tests.waiting import until, until_sync

SDK = Path(rota.__file__).parents[1]
TASKS = """
import sys
from datetime import date, timedelta
from typing import Optional
from rota import Retry, current_job, task


@task(name="client.double", tags={"kind": "sum"})
def double(number):
    print("doubling", number)
    return 2 * number


@task(name="client.fail", retry={"max_attempts": 1})
async def fail():
    raise ValueError("on purpose")


@task(name="client.keep")
def keep(name: str, note: Optional[str] = None, timeout: float = 1.0, **rest: date) -> dict:
    return {"name": name, "timeout": timeout, "kinds": [type(value).__name__ for value in rest.values()]}


@task(name="client.days")
def days(after: date, count: int) -> set:
    return {after + timedelta(days=number) for number in range(count)}


@task(name="client.busy")
def busy():
    raise Retry("come back later", after=3600)


@task(
    name="client.alert",
    retry={"max_attempts": 1},
    alert={"email": "team@example.org", "webhook": "http://127.0.0.1:PORT/hook"},
)
def alert():
    raise ValueError("tell somebody")


@task(name="client.python")
async def python():
    current_job().progress(0.5, "half way")
    return list(sys.version_info[:2])
"""


@task(name="client.double", tags={"kind": "sum"})
def double(number: int) -> int:
    return 2 * number


@task(name="client.days")
def days(after: date, count: int) -> set[date]:
    return {after + timedelta(days=number) for number in range(count)}


@task(name="client.keep")
def keep(name: str, note: str | None = None, timeout: float = 1.0, **rest: date) -> dict[str, object]:
    raise NotImplementedError


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it."""

    received: list[dict[str, object]]


class Receiving(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.received.append(body)  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    server = Receiver(("127.0.0.1", 0), Receiving)
    server.received = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Path:
    place = tmp_path_factory.mktemp("client")
    for folder in (place, place.parent):
        folder.chmod(0o755)
    (place / "client_tasks.py").write_text(TASKS.replace("PORT", str(receiver.server_port)))
    return place


@pytest.fixture(scope="module")
def system(place: Path) -> Iterator[dict[str, object]]:
    env = {"ROTA_TASK_PROCESSES": "1"}
    with running_system(place / "data", "--tasks", str(place / "client_tasks.py"), env=env) as state:
        yield state


@pytest.fixture
def url(system: dict[str, object]) -> str:
    return str(system["url"])


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def test_all_that_failed_is_retried_at_once(
    client: Client, url: str, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    from rota_server.apps.cli.jobs import retry
    from rota_server.apps.cli.output import Failure

    handles = [client.submit("client.fail", tags={"kind": "all"}) for _ in range(2)]
    for handle in handles:
        with pytest.raises(JobFailed):
            handle.wait(60)
    counted = client.retry_all(tag=["kind:all"], dry_run=True)
    assert (counted["matched"], counted["done"]) == (2, 0)
    assert client.retry_all(tag=["kind:all"], reason="mended")["done"] == 2
    for handle in handles:
        with pytest.raises(JobFailed):
            handle.wait(60)
        assert client.get(handle.id).attempt == 2
    monkeypatch.setenv("ROTA_URL", url)
    retry(state="failed", tag=("kind:all",), dry_run=True)
    assert capsys.readouterr().out == "2 would be retried\n"
    with pytest.raises(Failure):
        retry()
    with pytest.raises(Failure):
        retry(queue="default")


def test_a_submitted_task_is_waited_for_and_its_story_read(client: Client) -> None:
    assert double(4) == 8, "called as a function, a task runs here"
    handle = client.submit(double, number=21, queue="default", priority="high", tags={"team": "a"})
    job = handle.wait(60)
    assert (job.result, job.state, job.priority, job.tags) == (
        42,
        "succeeded",
        "high",
        {"kind": "sum", "team": "a"},
    )
    assert [event["type"] for event in handle.events()] == ["JobSubmitted", "AttemptStarted", "AttemptSucceeded"]
    assert "".join(part["text"] for part in handle.logs()) == "doubling 21\n"
    assert client.get(handle.id, at=handle.events()[0]["position"]).state == "queued"
    with pytest.raises(Conflict):
        handle.cancel()


def test_what_a_task_was_declared_with_stands_where_the_submission_is_silent(client: Client) -> None:
    assert client.submit(double, number=1).wait(60).tags == {"kind": "sum"}


def test_a_failure_and_a_timeout_of_waiting_are_exceptions_with_the_job(client: Client) -> None:
    with pytest.raises(JobFailed, match="ValueError: on purpose") as failed:
        client.submit("client.fail").wait(60)
    assert failed.value.job.state == "failed"
    later = client.submit(double, number=1, delay=3600)
    with pytest.raises(WaitTimeout) as waited:
        later.wait(0.1)
    assert isinstance(waited.value, TimeoutError)
    assert later.reschedule(datetime.now(UTC) + timedelta(hours=2), "not yet").state == "scheduled"
    assert later.cancel("enough").state == "cancelled"
    assert later.retry().state in ("queued", "running", "succeeded")
    assert later.wait(60).result == 2


def test_a_task_that_asks_for_its_next_attempt_in_an_hour_gets_it_then(client: Client) -> None:
    handle = client.submit("client.busy")
    job = until_sync(lambda: found if (found := handle.refresh()).state == "retrying" else None, what="the retry")
    failed = handle.events()[-1]
    delay = datetime.fromisoformat(failed["data"]["retry_at"]) - datetime.fromisoformat(failed["recorded_at"])
    assert timedelta(minutes=59) < delay <= timedelta(hours=1)
    assert (job.error["type"], job.error["message"]) == ("Retry", "come back later")


def test_a_task_submits_itself_to_the_client_around_it_and_its_result_is_what_it_says(client: Client) -> None:
    job = days.options(tags={"team": "a"}).submit(date(2027, 1, 31), count=2).wait(60)
    assert job.result == {date(2027, 1, 31), date(2027, 2, 1)}
    assert (job.fields["result"], job.tags) == (["2027-01-31", "2027-02-01"], {"team": "a"})
    assert client.get(job.id).result == job.fields["result"]


def test_without_a_client_around_it_a_task_uses_the_configured_one(url: str) -> None:
    rota.configure(url)
    assert double.submit(4).wait(60).result == 8
    rota.configure("http://127.0.0.1:1", patience=0)
    with pytest.raises(Unreachable):
        double.submit(4)
    rota.configure(url)


async def test_a_task_submits_itself_from_asyncio(url: str) -> None:
    async with AsyncClient(url):
        handle = await days.options(priority="high").asubmit(date(2027, 1, 1), 1)
        job = await handle.wait(60)
        assert (job.result, job.priority) == ({date(2027, 1, 1)}, "high")


def test_arguments_and_options_of_one_name_are_told_apart_or_refused(client: Client) -> None:
    with pytest.raises(TypeError, match=r"'timeout' is an argument of client\.keep and an option of jobs"):
        client.submit(keep, name="a", timeout=9)
    with pytest.raises(Refused, match=r"is an argument of client\.keep and an option of jobs") as refused:
        client.submit("client.keep", name="a", timeout=9)
    assert (refused.value.code, refused.value.field) == ("ambiguous", "timeout")
    job = keep.options(timeout=9).submit("a", timeout=2, on=date(2027, 1, 1)).wait(60)
    assert (job.timeout, job.result) == (9, {"name": "a", "timeout": 2, "kinds": ["date"]})
    assert client.submit("client.keep", args={"name": "a"}, timeout=9).wait(60).result["timeout"] == 1.0


def test_a_task_by_name_is_held_against_what_it_takes_wherever_its_job_goes(client: Client) -> None:
    unclear, clear = (
        rota.job("client.keep", name="a", timeout=9),
        rota.job("client.keep", args={"name": "a"}, timeout=9),
    )
    first, second, third = client.submit_many([clear, unclear, clear])
    assert (first["status"], second["status"], third["status"]) == (201, 422, 201)
    assert (second["problem"]["code"], second["problem"]["field"]) == ("ambiguous", "timeout")
    flow, fine = Workflow("w"), Workflow("w")
    flow.add("a", "client.keep", name="a", timeout=9)
    fine.add("a", "client.keep", args={"name": "a", "timeout": 2}, timeout=9)
    match = {"type": "org.example.a"}
    for field, send in {
        "timeout": lambda: client.submit_spec(unclear),
        "jobs.a.timeout": lambda: client.submit_workflow(flow),
        "jobs.1.timeout": lambda: client.submit_batch([clear, unclear]),
        "then.timeout": lambda: client.submit_batch([clear], then=unclear),
        "job.timeout": lambda: client.schedules.create("keep", unclear, every=3600),
    }.items():
        with pytest.raises(Refused, match=r"is an argument of client\.keep and an option of jobs") as refused:
            send()
        assert (refused.value.code, refused.value.field) == ("ambiguous", field)
    with pytest.raises(Refused, match="option of jobs"):
        client.create_trigger("keep", match=match, job=unclear)
    assert client.submit_workflow(fine).wait(60).state == "succeeded"
    client.schedules.create("keep", clear, every=3600)
    with pytest.raises(Refused, match="option of jobs"):
        client.schedules.change("keep", job=unclear)
    client.schedules.archive("keep")


async def test_the_rule_is_the_same_from_asyncio(url: str) -> None:
    unclear = rota.job("client.keep", name="a", timeout=9)
    async with AsyncClient(url) as client:
        (result,) = await client.submit_many([unclear])
        assert result["problem"]["code"] == "ambiguous"
        flow = Workflow("w")
        flow.add("a", "client.keep", name="a", timeout=9)
        with pytest.raises(Refused, match="option of jobs"):
            await client.submit("client.keep", name="a", timeout=9)
        with pytest.raises(Refused, match="option of jobs"):
            await client.submit_workflow(flow)
        with pytest.raises(Refused, match="option of jobs"):
            await client.schedules.create("keep", unclear, every=3600)


def test_a_failure_is_told_to_whom_the_task_is_declared_to_tell(client: Client, receiver: Receiver) -> None:
    job = client.submit("client.alert").wait(60, raise_on_failure=False)
    until_sync(lambda: receiver.received, what="the webhook")
    (told,) = receiver.received
    assert (told["type"], told["job"]["id"]) == ("rota.job.failed", job.id)  # type: ignore[index]
    (mail,) = client.list(task="email.send", tag=f"alert-of:{job.id}")
    assert (mail.args["to"], "tell somebody" in mail.args["text"]) == (["team@example.org"], True)
    assert client.task("client.alert")["defaults"]["alert"]["email"] == "team@example.org"


def test_misspelt_names_get_the_one_that_was_meant(client: Client) -> None:
    with pytest.raises(TypeError, match="takes no argument 'numbr'; did you mean 'number'"):
        client.submit(double, numbr=1)
    with pytest.raises(Refused, match="did you mean 'number'"):
        client.submit("client.double", numbr=1)
    with pytest.raises(Refused, match=r"did you mean 'client\.double'"):
        client.submit("client.dubble", number=1)


def test_a_text_on_the_command_line_is_a_text_where_the_task_takes_one(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROTA_URL", url)

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert ended.value.code == 0
        return capsys.readouterr().out.strip()

    with Client(url) as client:
        job = client.get(run("submit", "client.keep", "name=5", "timeout=7", 'on="2027-01-01"', "note=null"))
        assert job.args == {"name": "5", "timeout": 7, "on": "2027-01-01", "note": None}
        assert client.get(run("submit", "client.double", "number=21")).args == {"number": 21}
        assert client.get(run("submit", "client.double", "number=1", "--idempotent")).idempotent is True
        assert client.get(client.submit(double, number=1, idempotent=True).id).idempotent is True
    assert "client.keep" in run("tasks", "list")
    assert "name: string, note: null or string (optional), timeout: number (optional), any other" in run(
        "tasks", "show", "client.keep"
    )


def test_refusals_name_the_field(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        client.submit(double, number=1, priority="urgent")  # type: ignore[call-overload]
    assert (refused.value.status, refused.value.field) == (422, "priority")
    with pytest.raises(NotFound):
        client.get("01a20f4f-0000-7000-8000-000000000000")
    client.create_trigger(
        "mine", match={"type": "t"}, job={"task": "event.publish", "args": {"type": "t", "source": "/"}}
    )
    for odd in ("mine?x", "mine#x", "two words", "é", "a/b", "%2e"):
        with pytest.raises(NotFound):
            client.trigger(odd)
        with pytest.raises(NotFound):
            client.why(odd)
    client.submit(double, number=1, idempotency_key="one")
    with pytest.raises(Conflict) as reused:
        client.submit(double, number=2, idempotency_key="one")
    assert reused.value.field == "Idempotency-Key"
    with pytest.raises(ValueError, match="time zone"):
        client.submit(double, number=1, run_at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point


def test_many_jobs_are_submitted_at_once_and_listed_page_by_page(client: Client) -> None:
    tag = {"batch": "many"}
    results = client.submit_many([rota.job(double, number=n, tags=tag) for n in range(450)] + [{"task": "no.such"}])
    assert [result["status"] for result in results] == [201] * 450 + [422]
    assert results[-1]["problem"]["field"] == "task"
    listed = [job.id for job in client.list(tag="batch:many")]
    assert listed == [result["id"] for result in reversed(results[:-1])]
    assert [job.id for job in client.list(tag="batch:many", limit=3)] == listed[:3]


def test_published_events_are_followed_live(client: Client) -> None:
    before = client.log(after=0, limit=1)["position"]
    followed: list[str] = []

    def follow() -> None:
        for event in client.follow(after=before):
            if event["type"] == "EventPublished" and event["data"]["source"] == "/client/live":
                followed.append(event["data"]["type"])
            if followed == ["first", "last"]:
                return

    reader = threading.Thread(target=follow)
    reader.start()
    client.publish({"type": "first", "source": "/client/live", "data": {"a": 1}})
    client.publish({"type": "last", "source": "/client/live", "id": "last"})
    reader.join(60)
    assert followed == ["first", "last"]


async def test_the_client_for_asyncio_does_the_same(url: str) -> None:
    async with AsyncClient(url) as client:
        handle = await client.submit(double, number=21)
        assert (await handle.wait(60)).result == 42
        assert len(await handle.events()) == 3
        assert (await handle.logs())[0]["text"] == "doubling 21\n"
        with pytest.raises(JobFailed):
            await (await client.submit("client.fail")).wait(60)
        results = await client.submit_many([rota.job(double, number=n, tags={"batch": "async"}) for n in range(5)])
        listed = [job.id async for job in client.list(tag="batch:async")]
        assert listed == [result["id"] for result in reversed(results)]
        with pytest.raises(Refused):
            await client.submit(double, number=1, delay=-1)

        async def last_event() -> bool:
            async for event in client.follow(after=0):
                if event["stream_id"] == handle.id and event["type"] == "AttemptSucceeded":
                    return True
            return False

        await until(last_event, what="the job's end in the log")


def test_waiting_goes_on_while_the_store_is_restarted(system: dict[str, object], place: Path, client: Client) -> None:
    import json

    handle = client.submit(double, number=3, delay=1.5)
    processes = json.loads((place / "data" / "up.json").read_text())["processes"]
    os.kill(processes["store"], signal.SIGKILL)
    client.patience = 60
    assert handle.wait(60).result == 6


def whole_message(connection: socket.socket) -> bytes:
    """One HTTP message with a declared length; it may come in several pieces."""
    data = b""
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head.lower())
        if found and len(body) >= (int(length[1]) if length else 0):
            return data
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece


@contextmanager
def loses_the_first_answer(url: str) -> Iterator[tuple[str, list[bytes]]]:
    """A way to the store on which the first answer gets lost; also what the store said then."""
    host, _, port = url.removeprefix("http://").partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    lost: list[bytes] = []

    def carry() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with near, socket.create_connection((host, int(port))) as far:
                far.sendall(whole_message(near))
                answer = whole_message(far)
                if lost:
                    near.sendall(answer)
                else:
                    lost.append(answer)

    threading.Thread(target=carry, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", lost
    finally:
        listener.close()


def test_a_submission_whose_answer_is_lost_is_repeated_and_stays_one_job(client: Client, url: str) -> None:
    with loses_the_first_answer(url) as (by_way_of, lost), Client(by_way_of) as unlucky:
        handle = unlucky.submit(double, number=5, tags={"unlucky": "yes"})
    assert b"201 Created" in lost[0]
    assert handle.id.encode() in lost[0]
    assert [job.id for job in client.list(tag="unlucky:yes")] == [handle.id]


def test_a_store_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{taken.getsockname()[1]}", patience=0.1) as client, pytest.raises(Unreachable):
            client.submit(double, number=1)


def old_python() -> str | None:
    """A Python 3.9 or 3.10 of this machine."""
    candidates: list[str | Path | None] = [shutil.which(f"python3.{minor}") for minor in (9, 10)]
    candidates += sorted(Path.home().glob(".pyenv/versions/3.9*/bin/python3.9"))

    def works(path: str | Path) -> bool:
        return subprocess.run([str(path), "-c", ""], capture_output=True, check=False).returncode == 0

    return next((str(path) for path in candidates if path is not None and works(path)), None)


@pytest.mark.skipif(old_python() is None, reason="there is no Python 3.9 or 3.10 on this machine")
def test_tasks_and_client_run_on_an_older_python_without_anything_else(place: Path, url: str, client: Client) -> None:
    interpreter = str(old_python())
    script = (
        "import sys; from rota import Client; assert sys.version_info < (3, 11)\n"
        f"with Client({url!r}) as client: print(client.submit('client.double', number=4).wait(60).result)"
    )
    done = subprocess.run(
        [interpreter, "-W", "error", "-I", "-c", f"import sys; sys.path.insert(0, {str(SDK)!r})\n{script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr
    env = {"ROTA_PYTHON": interpreter, "PYTHONPATH": str(SDK), "ROTA_TASK_PROCESSES": "1"}
    tasks = str(place / "client_tasks.py")
    with running_system(place / "old", "--tasks", tasks, env=env) as state, Client(state["url"]) as old:
        job = old.submit("client.python").wait(60)
        assert job.result < [3, 11]
        with pytest.raises(JobFailed, match="ValueError: on purpose"):
            old.submit("client.fail").wait(60)
        assert old.submit(double, number=2).wait(60).result == 4


def test_a_token_that_is_missing_is_told(place: Path) -> None:
    env = {"ROTA_API_TOKENS": "ci:open-sesame-open-sesame", "ROTA_TOKEN": "open-sesame-open-sesame"}
    with running_system(place / "tokens", env=env) as state:
        with Client(state["url"], token="open-sesame-open-sesame") as allowed:
            assert until_sync(lambda: allowed.call("GET", "/v1/cluster")["leader"], what="a leader")
        with Client(state["url"], token="wrong") as refused, pytest.raises(NotAllowed):
            refused.get("x")


def test_workflows_and_batches_are_put_together_waited_for_and_listed(client: Client) -> None:
    flow = Workflow("client flow")
    first = flow.add("first", double, number=1)
    second = flow.add("second", double, number=first.result(), after=[first])
    with pytest.raises(ValueError, match="has a job second already"):
        flow.add("second", double, number=0)
    flow.add("third", double, number=second.result([]), after=[second, {"job": first, "outcome": "ended"}])
    handle = client.submit_workflow(flow)
    assert handle.wait(60).counts == {"succeeded": 3}
    assert handle.job("third").refresh().result == 8
    with pytest.raises(Conflict):
        handle.cancel("too late")
    assert handle.id in [found.id for found in client.workflows(name="client flow", state="succeeded")]
    batch = client.submit_batch([rota.job(double, number=n) for n in range(20)], then=rota.job("client.fail"), name="b")
    assert batch.wait(60).counts == {"succeeded": 20}
    with pytest.raises(JobFailed, match="on purpose"):
        batch.job("then").wait(60)
    with pytest.raises(KeyError):
        batch.job("other")
    assert [found.id for found in client.batches(name="b", limit=5)] == [batch.id]


def test_a_failed_workflow_is_an_exception_with_its_counts_and_can_be_retried(client: Client) -> None:
    flow = Workflow("fails")
    failing = flow.add("fails", "client.fail")
    flow.add("behind", double, number=1, after=[failing])
    handle = client.submit_workflow(flow)
    with pytest.raises(GroupFailed, match=r"ended as failed: 1 cancelled, 1 failed"):
        handle.wait(60)
    assert handle.retry("once more").state == "running"
    assert handle.wait(60, raise_on_failure=False).state == "failed"
    with pytest.raises(Refused) as refused:
        client.submit_workflow({"name": "w", "jobs": {"a": {"task": "client.double", "after": ["b"]}}})
    assert refused.value.field == "jobs.a.after.0"
    with pytest.raises(WaitTimeout, match=r"workflow .* is running"):
        client.submit_workflow({"name": "w", "jobs": {"a": {"task": "client.python", "delay": 60}}}).wait(0.1)


async def test_the_client_for_asyncio_has_workflows_and_batches(url: str) -> None:
    async with AsyncClient(url) as client:
        flow = Workflow("asynchronous")
        flow.add("only", double, number=4)
        handle = await client.submit_workflow(flow)
        assert (await handle.wait(60)).state == "succeeded"
        assert (await (await handle.job("only")).wait(60)).result == 8
        batch = await client.submit_batch([rota.job("client.python", delay=60)])
        assert (await batch.cancel("not needed")).state == "cancelling"
        with pytest.raises(GroupFailed):
            await batch.wait(60)
        assert [found.id async for found in client.batches(state="cancelled")] == [batch.id]
        assert (await batch.retry()).state == "running"
        assert (await client.batch(batch.id).wait(60)).counts == {"succeeded": 1}
        first = await client.submit(double, number=5)
        assert (await (await client.submit(double, number=1, after=[first])).wait(60)).result == 2


def test_the_commands_for_workflows_and_batches(url: str, tmp_path: Path) -> None:
    def command(*words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "rota_server.apps.cli.main", *words],
            env={**os.environ, "ROTA_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr or done.stdout
        return done.stdout + done.stderr

    flow = {"name": "from a file", "jobs": {"a": {"task": "client.double", "args": {"number": 1}}}}
    (tmp_path / "flow.json").write_text(json.dumps(flow))
    shown = json.loads(command("workflows", "submit", str(tmp_path / "flow.json"), "--wait", "--json"))
    assert shown["state"] == "succeeded"
    assert shown["id"] in command("workflows", "list", "--name", "from a file")
    assert "a\tsucceeded" in command("workflows", "show", shown["id"])
    (tmp_path / "batch.jsonl").write_text('{"task": "client.python", "delay": 60}\n' * 3)
    batch = command("batches", "submit", str(tmp_path / "batch.jsonl")).strip()
    assert command("batches", "cancel", batch).strip() == f"{batch} is cancelling"
    until_sync(lambda: "cancelled" in command("batches", "show", batch, "--json"), what="the end of the batch")
    (tmp_path / "bad.json").write_text("{")
    assert "bad.json" in command("workflows", "submit", str(tmp_path / "bad.json"), status=2)
    first = command("submit", "client.double", "number=3").strip()
    ended = json.loads(command("submit", "client.double", "number=1", "--after", first, "--wait"))
    assert ended["result"] == 2
    later = command("submit", "client.double", "number=1", "--delay", "600").strip()
    held = command("submit", "client.double", "number=2", "--after", later, "--on-failure", "hold").strip()
    assert command("jobs", "release", held, "--reason", "no need").strip() == f"{held} is queued"

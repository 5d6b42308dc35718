"""`rota demo`: real work on real input, through the whole system, and one job's complete history."""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rota import Client
from rota.declaring import RetryOptions
from rota_server.apps.cli.jobs import print_history
from rota_server.apps.cli.output import print_json, say
from rota_server.apps.cli.up import running_system

CHECKSUMS = 10
CHECKSUM = "import hashlib,sys;print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())"
WAIT_SECONDS = 120.0
REFUSALS = 2
DELAY_SECONDS = 2.0
FAST_RETRY: RetryOptions = {"max_attempts": 3, "initial": 0.3, "backoff": "exponential", "factor": 2, "jitter": 0.1}


class Stubborn(BaseHTTPRequestHandler):
    """Answers 503 twice, then 200: a server that needs retries."""

    asked = 0
    lock = threading.Lock()

    def do_POST(self) -> None:
        """Refuse, or accept."""
        with self.lock:
            type(self).asked += 1
            refuse = self.asked <= REFUSALS
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b"busy" if refuse else b'{"accepted": true}'
        self.send_response(503 if refuse else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def standard_library() -> list[Path]:
    """The modules at the top of Python's standard library and of its larger packages, as files."""
    root = Path(sysconfig.get_paths()["stdlib"])
    packages = ("", "asyncio", "concurrent/futures", "email", "encodings", "http", "importlib", "json", "logging",
                "multiprocessing", "unittest", "urllib", "xml/dom", "xml/etree", "xml/sax")  # fmt: skip
    files = [path for package in packages for path in sorted((root / package).glob("*.py"))]
    return [path for path in files if path.stat().st_size > 0]


def demo(data_dir: Path | None, *, as_json: bool) -> int:
    """Run it; status 0 only if everything came out as it must."""
    began = time.monotonic()
    with ExitStack() as stack:
        place = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rota-demo-")))
        place.chmod(0o755) if data_dir is None else None
        server = ThreadingHTTPServer(("127.0.0.1", 0), Stubborn)
        Stubborn.asked = 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        _say(as_json, "Starting PostgreSQL, Valkey, store, relay, scheduler and executor ...")
        tasks = str(Path(__file__).with_name("demo_tasks.py"))
        state = stack.enter_context(running_system(place, "--tasks", tasks))
        _say(as_json, f"Up after {time.monotonic() - began:.1f} s at {state['url']}.")
        with Client(state["url"]) as client:
            plan = Plan(client, f"http://127.0.0.1:{server.server_port}/orders")
            plan.submit()
            _watch(client, plan, as_json)
            report = plan.check()
            history = client.events(plan.retried)
        report["seconds"] = round(time.monotonic() - began, 1)
    _show(report, history, as_json)
    return 0 if report["ok"] else 1


class Plan:
    """The demo's jobs, and what must become of them."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url
        self.files = standard_library()
        self.ids: list[str] = []
        self.counted: list[str] = []
        self.sums: dict[str, Path] = {}
        self.retried = self.failing = self.delayed = self.endless = ""
        self._cancelled = False

    def submit(self) -> None:
        """Submit everything; the many files last, so that there is something to watch."""
        for path in self.files[:CHECKSUMS]:
            command = [sys.executable, "-c", CHECKSUM, str(path)]
            self.sums[self._client.submit("shell.run", command=command).id] = path
        self.retried = self._client.submit(
            "http.request", method="POST", url=self._url, json={"order": 1}, retry=FAST_RETRY
        ).id
        self.failing = self._client.submit("demo.impossible", divisor=0, retry=FAST_RETRY).id
        self.delayed = self._client.submit("demo.count", path=str(self.files[0]), delay=DELAY_SECONDS).id
        self.endless = self._client.submit("demo.wait_for_ever").id
        jobs = [{"task": "demo.count", "args": {"path": str(path)}} for path in self.files]
        self.counted = [result["id"] for result in self._client.submit_many(jobs)]
        self.ids = [*self.counted, *self.sums, self.retried, self.failing, self.delayed, self.endless]

    def cancel_the_runner(self) -> None:
        """Cancel the endless job if it runs."""
        if not self._cancelled and self._client.get(self.endless).state == "running":
            self._client.cancel(self.endless, reason="the demo has seen enough")
            self._cancelled = True

    def check(self) -> dict[str, Any]:
        """Compare everything with what it must be."""
        jobs = {job_id: self._client.get(job_id) for job_id in self.ids}
        faults = []

        def expect(true: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
            if not true:
                faults.append(what)

        totals: Counter[str] = Counter()
        for job_id, path in zip(self.counted, self.files, strict=True):
            job = jobs[job_id]
            expect(job.state == "succeeded", f"counting {path.name} ended as {job.state}: {job.error}")
            if job.state == "succeeded":
                expect(job.result["file"] == path.name, f"{path.name} got the result of {job.result['file']}")
                totals.update({name: job.result[name] for name in ("lines", "names", "comments")})
        for job_id, path in self.sums.items():
            printed = "".join(part["text"] for part in self._client.logs(job_id)).strip()
            wanted = hashlib.sha256(path.read_bytes()).hexdigest()
            expect(
                jobs[job_id].state == "succeeded" and printed == wanted, f"the checksum of {path.name} is {printed!r}"
            )
        retried, failing, delayed, endless = (jobs[i] for i in (self.retried, self.failing, self.delayed, self.endless))
        expect(retried.state == "succeeded" and retried.attempt == REFUSALS + 1, f"the request ended as {retried!r}")
        expect(failing.state == "failed" and failing.attempt == 3, f"the failing job ended as {failing!r}")
        expect(delayed.state == "succeeded", f"the delayed job ended as {delayed!r}")
        expect(_seconds(delayed) >= DELAY_SECONDS, f"the delayed job started after {_seconds(delayed)} s")
        expect(endless.state == "cancelled" and endless.attempt == 1, f"the cancelled job ended as {endless!r}")
        return {
            "ok": not faults,
            "faults": faults,
            "jobs": len(jobs),
            "states": dict(Counter(job.state for job in jobs.values())),
            "files": len(self.files),
            "totals": dict(totals),
            "checksums": len(self.sums),
            "delayed_by_seconds": round(_seconds(delayed), 3),
            "retried": self.retried,
        }


def _seconds(job: Any) -> float:
    from datetime import datetime

    if job.started_at is None:
        return 0.0
    return (datetime.fromisoformat(job.started_at) - datetime.fromisoformat(job.submitted_at)).total_seconds()


def _watch(client: Client, plan: Plan, as_json: bool) -> None:  # noqa: FBT001 - passed on
    """Follow the jobs to their ends, by the state counts of the lists; live on a terminal, else a line a second."""
    ids = plan.ids
    wanted = set(ids)
    deadline = time.monotonic() + WAIT_SECONDS
    terminal = sys.stdout.isatty() and not as_json
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=as_json), disable=not terminal) as progress:
        bar = progress.add_task("jobs", total=len(ids))
        said_at = 0.0
        while time.monotonic() < deadline:
            plan.cancel_the_runner()
            states = Counter(job.state for job in client.list() if job.id in wanted)
            ended = sum(states[state] for state in ("succeeded", "failed", "cancelled", "expired"))
            text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            progress.update(bar, completed=ended, description=text)
            if not terminal and (time.monotonic() - said_at > 1 or ended == len(ids)):
                said_at = time.monotonic()
                _say(as_json, f"{ended}/{len(ids)} ended: {text}")
            if ended == len(ids):
                return
            time.sleep(0.2)


def _say(as_json: bool, text: str) -> None:  # noqa: FBT001 - passed on
    say(text, file=sys.stderr if as_json else sys.stdout, flush=True)


def _show(report: dict[str, Any], history: list[dict[str, Any]], as_json: bool) -> None:  # noqa: FBT001
    if as_json:
        print_json({**report, "history": history})
        return
    totals = report["totals"]
    say(
        f"\n{report['jobs']} jobs in {report['seconds']} s: {json.dumps(report['states'])}\n"
        f"{report['files']} files of the standard library: {totals.get('lines', 0):,} lines, "
        f"{totals.get('names', 0):,} names, {totals.get('comments', 0):,} comments\n"
        f"{report['checksums']} checksums agree; the delayed job started after {report['delayed_by_seconds']} s\n\n"
        f"The history of the retried request, job {report['retried']}:"
    )
    print_history(history)
    for fault in report["faults"]:
        say(f"WRONG: {fault}")
    say("\nEverything came out as it must." if report["ok"] else "\nNot everything came out as it must.")

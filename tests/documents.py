"""Finds the examples in the documents and runs them against a system, as a reader would type them.

    ```json POST /v1/jobs          a request with this body; it must be accepted (or answered with the status behind it)
    ```json                        a job, when it names a task; otherwise it only has to be JSON
    ```python                      run with `client` (and `rota`) at hand; what a document's blocks define stays
    ```text FILE  or  ```yaml FILE a file with this text, for the commands after it
    ```  or  ```sh                 lines that begin with `rota` or `curl` are run and must succeed

`ID` in a command stands for the job that was submitted last. Roles and whole systems (`rota up`, `rota store` ...) are
not started here: their own tests do that.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rota import Client, RotaError, current_job, task
from rota_server.apps.cli.main import main

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
NOT_HERE = {"up", "demo", "bench", "store", "relay", "scheduler", "executor", "migrate", "doctor"}
ADDRESS = re.compile(r"http://(127\.0\.0\.1|localhost):3000")


class Example(NamedTuple):
    """One fenced block: where it stands, what its first line says, and what is in it."""

    where: str
    info: str
    text: str


def documents() -> list[Path]:
    """The documents that have examples."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(path: Path) -> Iterator[Example]:
    """The document's blocks, in order."""
    whole = path.read_text(encoding="utf-8")
    for found in FENCE.finditer(whole):
        line = whole.count("\n", 0, found.start()) + 1
        yield Example(f"{path.name}:{line}", found["info"].strip(), found["text"])


@dataclass
class Reader:
    """Somebody who types the examples of one document, one after the other."""

    url: str
    place: Path
    client: Client
    names: dict[str, Any] = field(default_factory=dict)
    last_job: str = ""
    done: int = 0

    def __post_init__(self) -> None:
        self.names |= {"client": self.client, "rota": self.client, "task": task, "current_job": current_job}

    def follow(self, example: Example) -> None:
        """Do what the example says; AssertionError when it does not come out."""
        language, _, rest = example.info.partition(" ")
        if language == "json":
            self._request(example, rest)
        elif language == "python":
            self._python(example)
        elif language in ("text", "yaml") and rest:
            (self.place / rest).write_text(example.text)
        elif language in ("", "sh", "console"):
            self._commands(example)

    def _request(self, example: Example, rest: str) -> None:
        body = json.loads(example.text)
        words = rest.split()
        if not words and not (isinstance(body, dict) and "task" in body):
            return
        method, path, *status = words or ["POST", "/v1/jobs"]
        self.done += 1
        try:
            answer = self.client.call(method, path.replace("ID", self.last_job), body=body)
        except RotaError as error:
            said = getattr(error, "status", None)
            assert status == [str(said)], f"{example.where}: {method} {path}: {said}: {error}"  # noqa: PT017 - either is an answer
            return
        assert not status or int(status[0]) < 400, f"{example.where}: {method} {path} was to be refused"
        if isinstance(answer, dict) and path == "/v1/jobs":
            self.last_job = answer["id"]

    def _python(self, example: Example) -> None:
        self.done += 1
        text = ADDRESS.sub(self.url, example.text)
        before = Path.cwd()
        os.chdir(self.place)
        try:
            exec(compile(text, example.where, "exec"), self.names)  # noqa: S102 - our own documents
        finally:
            os.chdir(before)

    def _commands(self, example: Example) -> None:
        for line in example.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["./dev", "rota"]:
                words = words[1:]
            if words[:1] == ["rota"] and len(words) > 1 and words[1] not in NOT_HERE:
                self._rota(example, words[1:])
            elif words[:1] == ["curl"]:
                self._curl(example, words)

    def _rota(self, example: Example, words: list[str]) -> None:
        self.done += 1
        arguments = [self.last_job if word == "ID" else word for word in words]
        if "--follow" in words:
            command = [sys.executable, "-m", "rota_server.apps.cli.main", *arguments]
            env = {**os.environ, "ROTA_URL": self.url, "PYTHONPATH": str(ROOT)}
            with subprocess.Popen(command, env=env, cwd=self.place, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.readline(), f"{example.where}: {shlex.join(words)} printed nothing"
                process.terminate()
            return
        status, out = self._in_process(arguments)
        assert status == 0, f"{example.where}: rota {shlex.join(words)} failed: {out}"
        if words[0] == "submit" and (found := UUID.search(out)):
            self.last_job = found.group()

    def _in_process(self, arguments: list[str]) -> tuple[object, str]:
        """The command's exit status and what it printed. A process for each would cost a second."""
        out = io.StringIO()
        before, url = Path.cwd(), os.environ.get("ROTA_URL")
        os.environ["ROTA_URL"] = self.url
        os.chdir(self.place)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                main(arguments)
        except SystemExit as ended:
            return ended.code, out.getvalue()
        finally:
            os.chdir(before)
            if url is None:
                del os.environ["ROTA_URL"]
            else:
                os.environ["ROTA_URL"] = url
        return 0, out.getvalue()

    def _curl(self, example: Example, words: list[str]) -> None:
        """What curl would do, as far as the documents use it."""
        self.done += 1
        address = next(word for word in words if ADDRESS.match(word))
        path = ADDRESS.sub("", address)
        data = words[words.index("-d") + 1] if "-d" in words else None
        method = words[words.index("-X") + 1] if "-X" in words else "GET" if data is None else "POST"
        answer = self.client.call(method, path, **({} if data is None else {"body": json.loads(data)}))
        assert answer, f"{example.where}: no answer"

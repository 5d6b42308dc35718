"""Processes of two versions side by side on the same servers, as in a deploy, each replaceable on its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.waiting import until_sync

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 280.0
READY_SECONDS = 150.0
STOP_SECONDS = 90.0
TASKS = ROOT / "tests" / "chaos" / "chaos_tasks.py"


@dataclass(frozen=True)
class Version:
    """An installed version of Rota; `name` for what the drill says."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


def this_version() -> Version:
    """What is checked out here."""
    return Version("new", (str(Path(sys.executable).with_name("rota")),))


def sources_of(commit: str, place: Path) -> Version:
    """The sources of a commit, run with the libraries that are installed here."""
    _unpack(commit, place)
    path = os.pathsep.join([str(place), str(place / "sdk" / "src")])
    return Version("old", (sys.executable, "-P", "-m", "apps.cli.main"), {"PYTHONPATH": path})


def is_shallow() -> bool:
    """Whether this clone was made without its history, so that no older version is in it."""
    return _git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true"


def _unpack(commit: str, source: Path) -> None:
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        raise AssertionError(
            f"the drill needs commit {commit} in git: fetch the whole history (git fetch --unshallow), or run it there"
        )
    source.mkdir(parents=True)
    archive = _git("archive", commit, text=False).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)


def built_from(commit: str, place: Path) -> Version:
    """The wheels of server and SDK of a commit, with what its lock names, in an environment of their own."""
    source = place / "source"
    _unpack(commit, source)
    environment = place / "environment"
    uv = shutil.which("uv") or str(ROOT / ".venv" / "bin" / "uv")
    python = str(environment / "bin" / "python")
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(environment)],
        [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", "requirements.lock"],
        [uv, "build", "--quiet", "--wheel", "--out-dir", str(place / "wheels"), "sdk"],
        [uv, "build", "--quiet", "--wheel", "--out-dir", str(place / "wheels"), "."],
    ):
        _run(command, source)
    wheels = [str(wheel) for wheel in (place / "wheels").glob("*.whl")]
    _run([uv, "pip", "install", "--quiet", "--python", python, "--no-deps", *wheels], source)
    return Version("old", (str(environment / "bin" / "rota"),))


def _git(*arguments: str, text: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=not text, timeout=60)


def _run(command: Sequence[str], place: Path) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS)
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"


@dataclass
class Member:
    """One process of the fleet."""

    role: str
    version: Version
    process: subprocess.Popen[bytes]
    log: Path
    port: int


@dataclass
class Fleet:
    """The processes, by their place (`store-1`): a place keeps its port when its version changes."""

    place: Path
    env: dict[str, str]
    members: dict[str, Member] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    said: list[Path] = field(default_factory=list)

    def start(self, name: str, version: Version) -> None:
        """Start the process of this place, and wait until it says that it is ready."""
        role = name.partition("-")[0]
        port = self.ports.setdefault(name, free_port())
        env = {**self.env, "ROTA_PORT": str(port), "ROTA_METRICS_PORT": str(free_port()), **version.env}
        options = ["--tasks", str(TASKS)] if role == "executor" else []
        log = self.place / f"{name}-{version.name}-{len(self.said)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*version.command, role, *options], stdout=out, stderr=subprocess.STDOUT, env=env, cwd=self.place
            )
        self.said.append(log)
        self.members[name] = Member(role, version, process, log, port)

    def await_ready(self, name: str) -> None:
        """A store answers; another role has written its first lines and lives."""
        member = self.members[name]
        until_sync(lambda: self._ready(member), timeout_seconds=READY_SECONDS, what=f"{name} being ready")

    def _ready(self, member: Member) -> bool:
        assert member.process.poll() is None, f"{member.role} ended: {member.log.read_text()[-3000:]}"
        if member.role != "store":
            return self._is_member(member)
        # The first version that is upgraded from calls itself not ready with a newer schema, and serves all the same.
        path = "/readyz" if member.version.name == "new" else "/v1/jobs?limit=1"
        try:
            return httpx.get(f"http://127.0.0.1:{member.port}{path}", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def _is_member(self, member: Member) -> bool:
        for store in (one for one in self.members.values() if one.role == "store"):
            try:
                cluster = httpx.get(f"http://127.0.0.1:{store.port}/v1/cluster", timeout=5).json()
            except (httpx.HTTPError, ValueError):
                continue
            members = [one for found in cluster.get("members", {}).values() for one in found]
            if any(one.get("pid") == member.process.pid for one in members):
                return True
        return member.role == "scheduler" and "lead" in member.log.read_text()

    def stop(self, name: str) -> None:
        """End the process of this place as a deploy does."""
        member = self.members.pop(name)
        member.process.send_signal(signal.SIGTERM)
        status = member.process.wait(STOP_SECONDS)
        assert status == 0, f"{name} of the {member.version.name} version: {member.log.read_text()[-3000:]}"

    def replace(self, name: str, version: Version) -> None:
        """Another version in the place of this one."""
        self.stop(name)
        self.start(name, version)
        self.await_ready(name)

    def urls(self) -> list[str]:
        """Of the stores' places, whoever is there."""
        return [f"http://127.0.0.1:{port}" for name, port in self.ports.items() if name.startswith("store")]

    def close(self) -> None:
        """End what is left, by force."""
        for member in self.members.values():
            if member.process.poll() is None:
                member.process.kill()
            member.process.wait(STOP_SECONDS)

    def text(self) -> str:
        """Everything that the processes said."""
        return "\n".join(path.read_text(errors="replace") for path in self.said)


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(database_url: str, owner_url: str, redis_url: str, trace: Path) -> dict[str, str]:
    """Of all processes of a fleet: nothing of the machine's own settings."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("ROTA_", "PYTEST", "VIRTUAL_ENV"))}
    return {
        **own,
        "ROTA_DATABASE_URL": database_url,
        "ROTA_OWNER_DATABASE_URL": owner_url,
        "ROTA_REDIS_URL": redis_url,
        "ROTA_TASK_PROCESSES": "1",
        "ROTA_CONCURRENCY": "5",
        "CHAOS_TRACE": str(trace),
    }

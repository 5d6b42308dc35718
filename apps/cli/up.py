"""`rota up`: the whole system on this machine, from wheels alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rota import Client
from rota import RotaError as ClientError
from rota_server.adapters.embedded.directory import DataDirectory, usable_port
from rota_server.adapters.embedded.postgres import EmbeddedPostgres
from rota_server.adapters.embedded.process import spawn
from rota_server.adapters.embedded.valkey import EmbeddedValkey
from rota_server.adapters.postgres.address import PostgresAddress
from rota_server.adapters.postgres.migrate import migrate
from rota_server.adapters.postgres.roles import KINDS, role_of
from rota_server.adapters.redis.access import RULES, user_line
from rota_server.apps.cli.output import say
from rota_server.apps.cli.ports import require_free_port
from rota_server.apps.secrecy import secrets_among, withdraw_secrets
from rota_server.apps.service import STOP_SECONDS
from rota_server.apps.settings import Settings
from rota_server.apps.supervisor import Misconfigured, Role, Server, Supervisor
from rota_server.domain.errors import RotaError
from rota_server.observability.logs import configure_logging

log = logging.getLogger("rota.up")

READY_SECONDS = 60.0
CHECK_SECONDS = 0.2
DRAIN_SECONDS = 10.0
STATE_FILE = "up.json"
NOTES = "reload.txt"
ROTA = (sys.executable, "-P", "-m", "rota_server.apps.cli.entry")
"""The command of a process of ours. It never imports from the current folder, which may hold modules of these names."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `rota up` is asked for."""

    data_dir: Path
    host: str
    port: int
    executors: int
    schedulers: int
    tasks: tuple[str, ...]
    reload: bool = False


def up(settings: Settings, plan: Plan) -> int:
    """Run until SIGINT or SIGTERM; the exit status. Prints where to look once everything serves."""
    secrets = secrets_among(os.environ)
    settings = withdraw_secrets(settings)
    for name in secrets:
        os.environ.pop(name, None)  # also those that jobs name: the executors get them, nobody else
    configure_logging("up", "WARNING")
    stop = _stop_signals()
    try:
        with DataDirectory(plan.data_dir) as directory, ExitStack() as stack:
            port = usable_port(0) if plan.port == 0 else plan.port
            require_free_port(plan.host, port)
            urls, servers = _servers(settings, directory, stack)
            logs = directory.path / "logs"
            supervisor = Supervisor(servers, _roles(settings, plan, secrets, urls, port, logs), logs)
            state = directory.path / STATE_FILE
            state.unlink(missing_ok=True)  # of one that was killed
            notes = Notes(logs / NOTES)
            try:
                supervisor.start()
                url = f"http://{_shown_host(plan.host)}:{port}"
                queues = _wait_until_ready(supervisor, url, settings, plan, stop)
                _write_state(state, url, supervisor)
                if not stop:
                    _say_where(url, directory.path, plan, queues, guarded=bool(settings.api_tokens))
                    say(_metrics_places(supervisor), end="", flush=True)
                while not stop:
                    supervisor.check()
                    _write_state(state, url, supervisor)
                    notes.show()
                    time.sleep(CHECK_SECONDS)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    state.unlink()
                supervisor.stop(DRAIN_SECONDS + STOP_SECONDS)
    except Misconfigured as error:
        say(error, file=sys.stderr)
        return 2
    except (RotaError, OSError) as error:
        say(f"rota up: {error}", file=sys.stderr)
        return 1
    say("Everything has stopped.", flush=True)
    return 0


class Notes:
    """What an executor says of tasks that it has loaded again, shown on the terminal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown = self._state()

    def show(self) -> None:
        """Say what is new."""
        state = self._state()
        if state is not None and state != self._shown:
            self._shown = state
            say(self._path.read_text(encoding="utf-8", errors="replace"), end="", flush=True)

    def _state(self) -> tuple[int, int] | None:
        with contextlib.suppress(FileNotFoundError):
            status = self._path.stat()
            return status.st_mtime_ns, status.st_ino
        return None


def _stop_signals() -> list[int]:
    """A list that is no longer empty once somebody wants an end."""
    got: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: got.append(n))
    return got


Urls = Mapping[str, Mapping[str, str]]
"""For each kind of process the settings that say where its servers are."""


def _servers(settings: Settings, directory: DataDirectory, stack: ExitStack) -> tuple[Urls, list[Server]]:
    """Where PostgreSQL and Redis are: the given ones, or embedded servers, where each kind has a role of its own."""
    urls: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    servers = []
    if settings.database_url is None:
        postgres = stack.enter_context(EmbeddedPostgres(directory))
        remembered = directory.remembered()
        passwords = remembered["role_passwords"]
        asyncio.run(migrate(postgres.url, remembered["app_password"], passwords))
        address = PostgresAddress.parse(postgres.url)
        for kind, own in urls.items():
            own["ROTA_DATABASE_URL"] = address.as_user(role_of(kind), passwords[kind]).url()
        servers.append(Server("postgres", lambda: postgres.alive, postgres.start, lambda: postgres.pid))
    else:
        for own in urls.values():
            own["ROTA_DATABASE_URL"] = settings.database_url
    if settings.redis_url is None:
        passwords = directory.remembered()["role_passwords"]
        users = [user_line(kind, role_of(kind), passwords[kind]) for kind in RULES]
        valkey = stack.enter_context(EmbeddedValkey(directory, users=users))
        for kind in RULES:
            urls[kind]["ROTA_REDIS_URL"] = f"redis://{role_of(kind)}:{passwords[kind]}@127.0.0.1:{valkey.port}/0"
        servers.append(Server("valkey", lambda: valkey.alive, valkey.start, lambda: valkey.pid))
    else:
        for kind in RULES:
            urls[kind]["ROTA_REDIS_URL"] = settings.redis_url
    return urls, servers


def _roles(settings: Settings, plan: Plan, secrets: Mapping[str, str], urls: Urls, port: int, logs: Path) -> list[Role]:
    loopback = plan.host in ("127.0.0.1", "::1", "localhost")
    env = {
        "ROTA_HOST": plan.host,
        "ROTA_PORT": str(port),
        "ROTA_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "ROTA_LOG_LEVEL": settings.log_level,
        "ROTA_TASKS": ",".join(plan.tasks),
    }
    if "ROTA_ALLOW_SHELL" not in os.environ and loopback:
        env["ROTA_ALLOW_SHELL"] = "true"

    def role(name: str, kind: str) -> Role:
        own = {setting: secret for setting, secret in secrets.items() if _is_for(setting, kind)}
        return Role(name, [*ROTA, kind], {**own, **urls[kind], **env})

    def executor(number: int) -> Role:
        found = role(f"executor-{number}" if plan.executors > 1 else "executor", "executor")
        if plan.reload:
            # All load the same files, so one of them tells.
            found.argv = [*found.argv, "--reload", *(["--reload-notes", str(logs / NOTES)] if number == 1 else [])]
        return found

    roles = [
        role("relay", "relay"),
        *(role(f"scheduler-{n}" if plan.schedulers > 1 else "scheduler", "scheduler") for n in _count(plan.schedulers)),
        *(executor(n) for n in _count(plan.executors)),
        role("store", "store"),
    ]
    if settings.metrics_port:
        # One port for all would be had by the first alone. The store has /metrics at its own.
        for offset, one in enumerate(roles[:-1]):
            one.env["ROTA_METRICS_PORT"] = str(settings.metrics_port + offset)
    return roles


def _metrics_places(supervisor: Supervisor) -> str:
    places = [(role.name, role.env.get("ROTA_METRICS_PORT")) for role in supervisor.roles]
    told = ", ".join(f"{name} 127.0.0.1:{port}" for name, port in places if port)
    return f"Metrics: {told}\n" if told else ""


def _is_for(secret: str, kind: str) -> bool:
    """Whether a kind of process needs this secret of the environment. Nobody needs the owner's address."""
    if secret == "ROTA_OWNER_DATABASE_URL":  # noqa: S105 - a name
        return False
    if secret == "ROTA_API_TOKENS":  # noqa: S105 - a name
        return kind == "store"
    if secret == "ROTA_SMTP_PASSWORD" or secret.startswith("ROTA_SECRET_"):  # noqa: S105 - names
        return kind == "executor"
    return True


def _count(number: int) -> range:
    return range(1, number + 1)


def _shown_host(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "localhost") else host  # noqa: S104 - only shown


def _wait_until_ready(supervisor: Supervisor, url: str, settings: Settings, plan: Plan, stop: list[int]) -> set[str]:
    """Wait until our own store serves, somebody leads, and every executor is a member; return the queues served.

    A store is a member only once it listens, so when ours is one, it is the one that answers at `url`.
    """
    deadline = time.monotonic() + READY_SECONDS
    token = settings.api_tokens[0].secret if settings.api_tokens else None
    with Client(url, token=token, timeout=5) as client:
        while not stop:
            supervisor.check()
            try:
                cluster = client.call("GET", "/v1/cluster")
                executors = client.call("GET", "/v1/executors")["items"]
                own = _is_member(supervisor, "store", cluster.get("members", {}).get("store", ()))
                if own and cluster.get("leader") and len(executors) >= plan.executors:
                    return {queue for executor in executors for queue in executor["queues"]}
            except ClientError:
                pass
            if time.monotonic() > deadline:
                words = "\n".join(f"{r.name}: {supervisor.last_words(r, 3)}" for r in supervisor.roles)
                raise OSError(f"the system did not become ready within {READY_SECONDS:.0f} s\n{words}")
            time.sleep(0.05)
    return set()


def _is_member(supervisor: Supervisor, role_name: str, members: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the role's process is among the members that a store names."""
    pids = {role.process.pid for role in supervisor.roles if role.name == role_name and role.process is not None}
    return any(member.get("pid") in pids and member.get("host") == socket.gethostname() for member in members)


def _write_state(path: Path, url: str, supervisor: Supervisor) -> None:
    """Who runs, for tools and people; written only when it has changed."""
    state = {
        "url": url,
        "supervisor": os.getpid(),
        "processes": {role.name: role.process.pid for role in supervisor.roles if role.process is not None},
        "servers": {server.name: server.pid() for server in supervisor.servers},
    }
    text = json.dumps(state)
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == text:
            return
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _read_state(path: Path) -> dict[str, Any]:
    """What a running system, or one that was killed, has written; empty if there is nothing."""
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return state


def _say_where(url: str, data_dir: Path, plan: Plan, queues: Iterable[str], *, guarded: bool) -> None:
    token = ' -H "Authorization: Bearer $ROTA_TOKEN"' if guarded else ""
    tasks = f"\nTasks from {', '.join(plan.tasks)}" if plan.tasks else ""
    tasks += ", loaded again when they change" if plan.tasks and plan.reload else ""
    say(
        f"Rota is up: {url}   API pages: {url}/docs   data and logs: {data_dir}{tasks}\n"
        f"Queues served: {', '.join(sorted(queues))}\n"
        "Submit a job:\n"
        f"  curl -s {url}/v1/jobs -H 'Content-Type: application/json'{token} \\\n"
        '    -d \'{"task": "shell.run", "args": {"command": ["echo", "hello"]}}\'\n'
        "Ctrl-C stops everything; the data stay.",
        flush=True,
    )


@contextmanager
def running_system(data_dir: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """A `rota up` in a process of its own, for commands that need a system; yields its state (url, processes)."""
    import subprocess

    data_dir.mkdir(parents=True, exist_ok=True)
    command = [*ROTA, "up", "--data-dir", str(data_dir), "--port", "0", *options]
    with (data_dir / "up.log").open("wb") as out:
        # It ends with us, however we end.
        process = spawn(command, log=out, death_signal=signal.SIGTERM, env={**os.environ, **(env or {})})
    try:
        while (state := _read_state(data_dir / STATE_FILE)).get("supervisor") != process.pid:
            if process.poll() is not None:
                raise OSError("the system did not start:\n" + (data_dir / "up.log").read_text(errors="replace"))
            time.sleep(0.05)
        yield state
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

"""The command `rota`. Each command imports what it needs when it runs, so that `rota --help` is quick.

Exit status: 0 done, 1 the operation failed, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from rota_server.apps.cli import (
    calendars,
    events,
    groups,
    inbox,
    jobs,
    queues,
    schedules,
    subscriptions,
    tokens,
    triggers,
    why,
)
from rota_server.apps.cli import tasks as tasks_cli
from rota_server.apps.cli.output import Failure, say

SERVICES = {"up", "demo", "bench", "store", "relay", "scheduler", "executor", "migrate", "doctor"}
"""Commands that run or check a system; all others speak to a store as a client."""


def _version() -> str:
    from rota_server.apps.version import VERSION

    return VERSION


app = App(name="rota", help="Rota: jobs that are never lost, and their whole history.", version=_version)
app.command(jobs.submit)
app.command(jobs.app)
app.command(events.app)
app.command(inbox.app)
app.command(
    "rota_server.apps.cli.imports.command:app", name="import", help="Make schedules of what other schedulers run by."
)
app.command(queues.app)
app.command(tasks_cli.app)
app.command(triggers.app)
app.command(subscriptions.app)
app.command(schedules.app)
app.command(calendars.app)
app.command(groups.app_of("workflow"))
app.command(groups.app_of("batch"))
app.command(why.why)
app.command(tokens.app)

Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]


@app.command
def up(
    *,
    data_dir: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    executors: int = 1,
    schedulers: int = 1,
    tasks: Words = (),
    reload: bool = False,
) -> int:
    """Run the whole system on this machine until Ctrl-C.

    Args:
        data_dir: Where everything is kept (default: .rota).
        host: Address of the store (default: 127.0.0.1).
        port: Port of the store (default: 3000; 0: any free one).
        executors: How many executors.
        schedulers: How many schedulers (one leads, the others stand by).
        tasks: A module or file with Python tasks; may be given several times.
        reload: Load the tasks again when their files change: for development.
    """
    from rota_server.apps.cli.up import Plan
    from rota_server.apps.cli.up import up as run

    settings = _settings(data_dir=data_dir, host=host, port=port)
    if executors < 1 or schedulers < 1:
        raise Failure("at least one executor and one scheduler are needed", status=2)
    missing = [t for t in tasks if t.endswith(".py") and not Path(t).is_file()]
    if missing:
        raise Failure(f"there is no file {missing[0]}", status=2)
    absolute = tuple(str(Path(t).absolute()) if t.endswith(".py") else t for t in tasks) or settings.tasks
    return run(
        settings,
        Plan(
            data_dir=settings.data_dir,
            host=settings.host,
            port=settings.port,
            executors=executors,
            schedulers=schedulers,
            tasks=absolute,
            reload=reload,
        ),
    )


@app.command
def run(task: str, *arguments: str, tasks: Words = (), attempt: int = 1, pdb: bool = False) -> int:
    """Run a task here and now, in the foreground and without any server: for a debugger, and for trying.

    Args:
        task: The task's name.
        arguments: name=value; a value that is JSON is taken as JSON, unless the task takes only a text there.
        tasks: A module or file with Python tasks; may be given several times.
        attempt: Which attempt it believes to be.
        pdb: When it raises, open the debugger there.
    """
    from rota_server.apps.cli.run import run as start

    settings = _settings()
    options = ["--attempt", str(attempt), *(["--pdb"] if pdb else [])]
    return start(settings.python, task, arguments, tasks or settings.tasks, options)


@app.command
def demo(*, data_dir: Path | None = None, json: bool = False) -> int:
    """Start the system, run real jobs, show them live, end with one job's history.

    Args:
        data_dir: Keep the demo's data here instead of in a temporary directory.
        json: Print the totals as JSON.
    """
    from rota_server.apps.cli.demo import demo as run

    return run(data_dir, as_json=json)


@app.command
def bench(
    *,
    json: bool = False,
    jobs: int = 20_000,
    seconds: float = 5.0,
    executors: int = 0,
    only: Words = (),
    schedules: int = 100_000,
    waiting_jobs: int = 1_000_000,
) -> int:
    """Measure the system; on embedded servers unless ROTA_DATABASE_URL and ROTA_REDIS_URL name others.

    Args:
        json: Print one JSON object.
        jobs: Jobs of the end-to-end measurement.
        seconds: Duration of each of the other measurements.
        executors: How many executors; 0 for one a core, at most four.
        only: Parts to measure (append, end_to_end, limits, submit, latency, timers); all of these unless given. Or
            `schedules`: a leader's memory, its ticks and its takeover at scale, on a system of its own.
        schedules: Schedules of that measurement.
        waiting_jobs: Jobs of that measurement that wait for their time over the coming year.
    """
    from rota_server.apps.cli.bench import bench as run
    from rota_server.apps.cli.bench import executors_of_machine
    from rota_server.apps.cli.bench_schedules import Scale

    executors = executors or executors_of_machine()
    scale = Scale(waiting_jobs, schedules, max(seconds, 10.0))
    return run(as_json=json, jobs=jobs, seconds=seconds, executors=executors, only=tuple(only), scale=scale)


@app.command
def store(*, host: str | None = None, port: int | None = None, insecure: bool | None = None) -> int:
    """Run a store: the HTTP service.

    Args:
        host: Address to listen on (default: 127.0.0.1).
        port: Port (default: 3000).
        insecure: Listen beyond loopback without tokens.
    """
    from rota_server.apps.store.main import main as run

    return run(_settings(host=host, port=port, insecure=insecure))


@app.command
def relay() -> int:
    """Run a relay: it brings the log to Redis. Several may run; one is active."""
    from rota_server.apps.relay.main import main as run

    return run(_settings())


@app.command
def scheduler() -> int:
    """Run a scheduler. Several may run; one leads."""
    from rota_server.apps.scheduler.main import main as run

    return run(_settings())


@app.command
def executor(
    *,
    tasks: Words = (),
    queues: Words = (),
    concurrency: int | None = None,
    reload: bool = False,
    reload_notes: Annotated[Path | None, Parameter(show=False)] = None,
) -> int:
    """Run an executor.

    Args:
        tasks: A module or file with Python tasks; may be given several times.
        queues: A queue to work on; may be given several times.
        concurrency: How many attempts run at once.
        reload: Load the tasks again when their files change: for development.
        reload_notes: A file that is told how that went.
    """
    from rota_server.apps.executor.main import main as run

    settings = _settings(tasks=tasks or None, queues=queues or None, concurrency=concurrency)
    return run(settings, reload=reload, notes=reload_notes)


@app.command
def migrate(*, wait: float = 0.0, reset_term: bool = False, roles: Path | None = None) -> int:
    """Bring the database to this version's schema, as its owner (ROTA_OWNER_DATABASE_URL).

    Args:
        wait: Seconds to wait for the server to come up.
        reset_term: Let terms begin again, after ZooKeeper's data were lost; stop all schedulers first.
        roles: Folder for the addresses with which each kind of process connects as a role of its own; made if missing.
    """
    from rota_server.apps.cli.servers import migrate_database

    return migrate_database(_settings(), wait_seconds=wait, reset_term=reset_term, roles=roles)


@app.command
def doctor(*, json: bool = False) -> int:
    """Print the effective settings, secrets masked, and check every server.

    Args:
        json: Print one JSON object.
    """
    from rota_server.apps.cli.servers import doctor as run

    return run(_settings(), as_json=json)


def _settings(**overrides: object):  # type: ignore[no-untyped-def]  # noqa: ANN202
    from pydantic import ValidationError

    from rota_server.apps.settings import load_settings

    try:
        return load_settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = "ROTA_" + "_".join(str(part) for part in first["loc"]).upper()
        raise Failure(f"{name}: {first['msg'].removeprefix('Value error, ')}", status=2) from None


def _take_client_settings(arguments: list[str]) -> None:
    """Let a client command find ROTA_URL and its token in `.env`, as the services find their settings there.

    Not for services: what is in their environment reaches the processes that they start.
    """
    if not Path(".env").is_file() or (arguments and arguments[0] in SERVICES):
        return
    from dotenv import dotenv_values

    for name, value in dotenv_values(".env").items():
        if name in ("ROTA_URL", "ROTA_TOKEN", "ROTA_TOKEN_FILE", "ROTA_PORT", "ROTA_DATA_DIR") and value:
            os.environ.setdefault(name, value)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    _take_client_settings(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_run(lambda: app(arguments, exit_on_error=False, print_error=True, result_action="return_value")))


def _run(command: Callable[[], object]) -> int:  # noqa: PLR0911 - one return for each way to fail
    from rota import RotaError, Unreachable
    from rota_server.domain.errors import RotaError as ServiceError

    try:
        status = command()
    except CycloptsError:
        return 2
    except Failure as failure:
        say(f"rota: {failure}", file=sys.stderr)
        return failure.status
    except Unreachable as error:
        say(
            f"rota: the store cannot be reached: {error}\nIs it running? `rota up` starts one; ROTA_URL names another.",
            file=sys.stderr,
        )
        return 1
    except RotaError as error:
        say(f"rota: {error}", file=sys.stderr)
        return 1
    except (ServiceError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has had enough.
            sys.stderr.close()
            return 0
        say(f"rota: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    main()

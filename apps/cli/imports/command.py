"""`rota import ...`: show what the lines of other schedulers become, and with `--apply` create it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial as partial_of
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from rota_server.apps.cli.arguments import guessed
from rota_server.apps.cli.imports.crontab import Problem, parse_crontab
from rota_server.apps.cli.imports.eventbridge import parse_eventbridge
from rota_server.apps.cli.imports.found import Found, Wanted, plan_of_found
from rota_server.apps.cli.imports.kubernetes import parse_manifests
from rota_server.apps.cli.imports.plans import Names, plan_of_entry, plan_of_line
from rota_server.apps.cli.imports.quartz import parse_quartz
from rota_server.apps.cli.imports.running import Import, add_plan, finish, machine_timezone, read_files, zone_option
from rota_server.apps.cli.imports.systemd import parse_timer
from rota_server.apps.cli.imports.workflows import parse_workflow
from rota_server.apps.cli.output import Failure

app = App(name="import", help="Turn what other schedulers run by into schedules. Changes nothing without --apply.")

Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]
Parsed = tuple[list[Found], list[Problem]]


@Parameter(name="*")
@dataclass
class Options:
    """What all schedules of the files become.

    Attributes:
        task: What they run, whatever the files say.
        args: name=value for the task; may be given several times.
        timezone: The zone of all of them; that of the files unless given.
        queue: The queue of the jobs.
        source: What the file is called from now on; its full path unless given.
        apply: Create the schedules.
        partial: Create what can be created although some have problems.
        prune: Archive schedules of this source that have no line any more.
        json: Print JSON.
    """

    task: str | None = None
    args: Words = ()
    timezone: str | None = None
    queue: str | None = None
    source: str | None = None
    apply: bool = False
    partial: bool = False
    prune: bool = False
    json: bool = False


@app.command(name="crontab")
def import_crontab(
    *files: Path,
    system: bool = False,
    timezone: str | None = None,
    queue: str | None = None,
    source: str | None = None,
    apply: bool = False,
    partial: bool = False,
    prune: bool = False,
    json: bool = False,
) -> int:
    """Make schedules of crontabs: each line runs its command by `shell.run`.

    Args:
        files: Crontabs; - reads standard input.
        system: The lines have a user behind the time, as in /etc/crontab and /etc/cron.d.
        timezone: The zone of lines without CRON_TZ or TZ above them; this machine's unless given.
        queue: The queue of the jobs.
        source: What the file is called from now on; its full path unless given.
        apply: Create the schedules.
        partial: Create what can be created although some lines have problems.
        prune: Archive schedules of this source that have no line any more.
        json: Print JSON.
    """
    zone = zone_option(timezone or machine_timezone() or "UTC")

    def read(data: bytes, found: Import) -> None:
        names = Names(found.source)
        entries, found.problems = parse_crontab(data, system=system)
        for entry in entries:
            make = partial_of(plan_of_entry, entry, names, timezone=zone, queue=queue)
            add_plan(found, entry.line, entry.command, make)

    imports = read_files(files, source, read)
    return finish(imports, apply=apply, partial=partial, prune=prune, as_json=json)


@app.command(name="github")
def import_github(  # noqa: PLR0913 - each is an option
    *files: Path,
    task: str | None = None,
    args: Words = (),
    timezone: str | None = None,
    queue: str | None = None,
    source: str | None = None,
    apply: bool = False,
    partial: bool = False,
    prune: bool = False,
    json: bool = False,
) -> int:
    """Make schedules of the cron lines of GitHub Actions workflows, or of a YAML list of cron lines.

    Args:
        files: Workflows; - reads standard input.
        task: What each line runs; without it only their times are shown.
        args: name=value for the task; may be given several times.
        timezone: The zone of all lines; UTC, or what a line says, unless given.
        queue: The queue of the jobs.
        source: What the file is called from now on; its full path unless given.
        apply: Create the schedules; needs --task.
        partial: Create what can be created although some lines have problems.
        prune: Archive schedules of this source that have no line any more.
        json: Print JSON.
    """
    if apply and task is None:
        raise Failure("say what the schedules run: --task", status=2)
    given, zone = guessed(args), None if timezone is None else zone_option(timezone)

    def read(data: bytes, found: Import) -> None:
        names = Names(found.source)
        lines, found.problems = parse_workflow(data.decode(errors="replace"))
        for cron in lines:
            make = partial_of(plan_of_line, cron, names, task=task, args=given, timezone=zone, queue=queue)
            add_plan(found, cron.line, cron.rule, make)

    imports = read_files(files, source, read)
    return finish(imports, apply=apply, partial=partial, prune=prune, as_json=json)


@app.command(name="kubernetes")
def import_kubernetes(*files: Path, options: Options | None = None) -> int:
    """Make schedules of the CronJobs in Kubernetes manifests: what a container runs becomes a `shell.run`.

    Args:
        files: Manifests; - reads standard input.
        options: What they become.
    """
    return _import(files, options, lambda text, _found: parse_manifests(text))


@app.command(name="systemd")
def import_systemd(*files: Path, options: Options | None = None) -> int:
    """Make schedules of systemd timers: what the service beside a timer runs becomes a `shell.run`.

    Args:
        files: Timers, such as /etc/systemd/system/backup.timer; - reads standard input.
        options: What they become.
    """
    return _import(files, options, _timer, machine_timezone() or "UTC")


@app.command(name="quartz")
def import_quartz(*files: Path, options: Options | None = None) -> int:
    """Make schedules of Quartz expressions, one a line, each perhaps with a name: `name = 0 0 2 ? * MON`.

    Args:
        files: Lists of expressions; - reads standard input.
        options: What they become; --task says what they run.
    """
    return _import(files, options, lambda text, _found: parse_quartz(text), machine_timezone() or "UTC")


@app.command(name="eventbridge")
def import_eventbridge(*files: Path, options: Options | None = None) -> int:
    """Make schedules of EventBridge expressions, one a line, or of the JSON that its list commands print.

    Args:
        files: Lists of expressions; - reads standard input.
        options: What they become; --task says what they run.
    """
    return _import(files, options, lambda text, _found: parse_eventbridge(text))


def _import(
    files: tuple[Path, ...], options: Options | None, parse: Callable[[str, Import], Parsed], timezone: str = "UTC"
) -> int:
    options = options or Options()
    wanted = Wanted(
        task=options.task,
        args=guessed(options.args),
        timezone=None if options.timezone is None else zone_option(options.timezone),
        default_timezone=timezone,
        queue=options.queue,
    )

    def read(data: bytes, found: Import) -> None:
        names = Names(found.source)
        schedules, found.problems = parse(data.decode(errors="replace"), found)
        for schedule in schedules:
            add_plan(found, schedule.line, schedule.title, partial_of(plan_of_found, schedule, names, wanted))
            if options.apply and schedule.job is None and options.task is None:
                found.plans = [plan for plan in found.plans if "job" in plan.request]
                reason = "it does not say what Rota could run: --task"
                found.problems.append(Problem(line=schedule.line, text=schedule.title, reason=reason))

    imports = read_files(files, options.source, read)
    return finish(imports, apply=options.apply, partial=options.partial, prune=options.prune, as_json=options.json)


def _timer(text: str, found: Import) -> Parsed:
    path = found.path

    def service(unit: str) -> str | None:
        if path is None or str(path) == "-" or "/" in unit:
            return None
        try:
            return (path.parent / unit).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    name = "timer" if path is None or str(path) == "-" else path.name.removesuffix(".timer")
    return parse_timer(text, name, service)

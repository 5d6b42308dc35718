"""What all imports share: read files, show what their lines become, and with `--apply` create it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rota import Client, Conflict, Refused
from rota_server.apps.cli.imports.crontab import Problem
from rota_server.apps.cli.imports.plans import SOURCE_TAG, Plan, stale
from rota_server.apps.cli.output import Failure, print_json, say
from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.zones import parse_zone_name

SIZE_LIMIT_BYTES = 4 * 1024 * 1024
NOTES_LIMIT_CHARS = 10_000


@dataclass(slots=True)
class Import:
    """One source: what its lines become, and what became of them."""

    source: str
    path: Path | None = None
    plans: list[Plan] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)


def machine_timezone() -> str | None:
    """The IANA name of this machine's time zone, when it can be found out."""
    _, _, name = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")
    try:
        return parse_zone_name(name)
    except Rejected:
        return None


def zone_option(name: str) -> str:
    """The zone of the option --timezone."""
    try:
        return parse_zone_name(name)
    except Rejected as error:
        raise Failure(f"--timezone: {error.message}", status=2) from None


def read_files(files: Sequence[Path], source: str | None, read: Callable[[bytes, Import], None]) -> list[Import]:
    """What `read` makes of each of the files; - is standard input."""
    if not files:
        raise Failure("say which file; - is standard input", status=2)
    if source is not None and len(files) > 1:
        raise Failure("--source goes with one file", status=2)
    imports = []
    for path in files:
        data = sys.stdin.buffer.read(SIZE_LIMIT_BYTES + 1) if str(path) == "-" else path.read_bytes()
        if len(data) > SIZE_LIMIT_BYTES:
            raise Failure(f"{path} is larger than {SIZE_LIMIT_BYTES} bytes")
        found = Import(source or ("stdin" if str(path) == "-" else str(path.resolve())), path)
        read(data, found)
        found.problems.sort(key=lambda problem: problem.line)
        imports.append(found)
    return imports


def add_plan(found: Import, line: int, text: str, make: Callable[[], Plan]) -> None:
    """Add the schedule that `make` makes of a line, or why it is none."""
    try:
        plan = make()
        plan.request["notes"] = plan.request["notes"][:NOTES_LIMIT_CHARS]
        plan.next_times(datetime.now(UTC))
    except Rejected as error:
        found.problems.append(Problem(line=line, text=text, reason=error.message))
    else:
        found.plans.append(plan)


def finish(imports: Sequence[Import], *, apply: bool, partial: bool, prune: bool, as_json: bool) -> int:
    """Create what is to be created, show everything, and answer the exit status."""
    troubled = any(found.problems for found in imports)
    applied = apply and (partial or not troubled)
    if applied:
        with Client() as client:
            for found in imports:
                _apply(client, found, prune=prune)
    if as_json:
        print_json({"applied": applied, "sources": [_as_json(found) for found in imports]})
    else:
        for found in imports:
            _show(found)
        _sum_up(imports, apply=apply, applied=applied)
    return 1 if any(found.problems for found in imports) else 0


def _apply(client: Client, found: Import, *, prune: bool) -> None:
    for plan in found.plans:
        try:
            client.call("POST", "/v1/schedules", body=plan.request)
            found.results[plan.name] = "created"
            if plan.paused:
                reason = f"suspended in {found.source}"
                client.call("POST", f"/v1/schedules/{plan.name}/pause", body={"reason": reason[:1000]})
                found.results[plan.name] = "created, and paused"
        except Conflict as error:
            if error.code != "exists":
                raise
            found.results[plan.name] = "there already"
        except Refused as error:
            found.results[plan.name] = "refused"
            found.problems.append(Problem(line=plan.line, text=plan.name, reason=str(error)))
    found.stale = stale(_schedules_of(client, found.source), found.plans)
    for name in found.stale if prune else ():
        client.call("POST", f"/v1/schedules/{name}/archive", body={"reason": f"no longer in {found.source}"})
        found.results[name] = "archived"


def _schedules_of(client: Client, source: str) -> list[dict[str, Any]]:
    schedules: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"tag": f"{SOURCE_TAG}:{source}", "limit": 200, "cursor": cursor}
        page = client.call("GET", "/v1/schedules", query=query)
        schedules += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return schedules


def _as_json(found: Import) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "source": found.source,
        "schedules": [
            {
                "line": plan.line,
                "name": plan.name,
                "request": plan.request,
                "next": plan.next_times(now),
                "notes": plan.notes,
                "paused": plan.paused,
                "result": found.results.get(plan.name),
            }
            for plan in found.plans
        ],
        "problems": [{"line": p.line, "text": p.text, "reason": p.reason} for p in found.problems],
        "stale": [{"name": name, "result": found.results.get(name)} for name in found.stale],
    }


def _show(found: Import) -> None:
    say(found.source)
    now = datetime.now(UTC)
    shown = [(plan.line, _lines_of(plan, found.results.get(plan.name), now)) for plan in found.plans]
    shown += [(p.line, [f"refused: {p.reason}", *([f"text  {p.text}"] if p.text else [])]) for p in found.problems]
    for line, (first, *more) in sorted(shown, key=lambda entry: entry[0]):
        say(f"  line {line:<4} {first}")
        for text in more:
            say(f"            {text}")
    for name in found.stale:
        said = found.results.get(name, "no line stands for it any more, and it still runs; --prune archives it")
        say(f"  {name}: {said}")


def _lines_of(plan: Plan, result: str | None, now: datetime) -> list[str]:
    request = plan.request
    lines = [f"{plan.name}" + ("" if result is None else f": {result}")]
    lines.append(f"when  {_when(request)}  {request['timezone']}")
    job = request.get("job")
    if job is not None:
        args = job["args"]
        what = shlex.join(args["command"]) if job["task"] == "shell.run" and "command" in args else f"{args}"
        lines.append(f"runs  {job['task']} {what}")
    lines.append("next  " + ", ".join(tick["at"] for tick in plan.next_times(now)))
    lines += [f"note  {note}" for note in plan.notes]
    return lines


def _when(request: dict[str, Any]) -> str:
    cron, every = request.get("cron"), request.get("every")
    text = (
        "; ".join(cron) if isinstance(cron, list) else cron or request.get("rrule") or ", ".join(request.get("at", ()))
    )
    text = text if every is None else f"every {every:g} s"
    bounds = [f"{name} {request[name]}" for name in ("start", "end") if request.get(name)]
    jitter = [f"up to {request['jitter']:g} s later"] if request.get("jitter") else []
    return ", ".join((text, *bounds, *jitter))


def _sum_up(imports: Sequence[Import], *, apply: bool, applied: bool) -> None:
    plans, problems = (sum(len(getattr(found, name)) for found in imports) for name in ("plans", "problems"))
    counted = f"{plans} schedule{'s' * (plans != 1)}, {problems} problem{'s' * (problems != 1)}."
    if applied:
        made = sum(result.startswith("created") for found in imports for result in found.results.values())
        say(f"{counted} {made} created.")
    elif apply:
        say(f"{counted} Nothing was changed: some lines have problems. --partial creates the others.")
    else:
        say(f"{counted} Nothing was changed. --apply creates them.")

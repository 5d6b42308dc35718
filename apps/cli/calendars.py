"""`rota calendars ...`: times at which schedules do not tick, shared between them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from rota import Client
from rota_server.apps.cli.json_options import given, object_of
from rota_server.apps.cli.output import Failure, print_fields, print_json, print_table, say

app = App(name="calendars", help="Share times at which schedules do not tick.")

Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]
PARTS = ("dates", "weekly", "intervals", "icalendar", "skip_invalid")
TOLD = {"skipped": "skipped", "warnings": "warning"}


@app.command
def create(
    name: str,
    *,
    date: Words = (),
    icalendar: Path | None = None,
    skip_invalid: bool = False,
    set_: Annotated[str | None, Parameter(name="--set")] = None,
    reason: str | None = None,
    json: bool = False,
) -> None:
    """Create a calendar.

    Args:
        name: Its name.
        date: A day that is left out, such as 2026-12-25; may be given several times.
        icalendar: An iCalendar file whose events are left out.
        skip_invalid: Take the file without the events that cannot be understood, and say which.
        set_: Further fields as a JSON object or @FILE: {"weekly": [{"days": ["sat", "sun"]}]}.
        reason: Why; kept in its history.
        json: Print JSON.
    """
    fields = _fields(date, icalendar, set_, skip_invalid=skip_invalid)
    with Client() as client:
        _print(client.calendars.create(name, reason=reason, **fields), json)


@app.command(name="list")
def list_calendars(*, json: bool = False) -> None:
    """List calendars, newest first.

    Args:
        json: Print JSON.
    """
    with Client() as client:
        found = list(client.calendars.list())
    if json:
        print_json(found)
        return
    print_table(
        ("NAME", "STATE", "REVISION", "CHANGED", "HOLDS"),
        ((c["name"], c["state"], c["revision"], c["changed_at"], _held(c)) for c in found),
    )


@app.command
def show(calendar: str, *, at: str | None = None, json: bool = False) -> None:
    """Show a calendar.

    Args:
        calendar: Its name or id.
        at: As it was at this position or instant.
        json: Print JSON.
    """
    with Client() as client:
        _print(client.calendars.get(calendar, at=at), json)


@app.command
def change(
    calendar: str,
    *,
    date: Words = (),
    icalendar: Path | None = None,
    skip_invalid: bool = False,
    set_: Annotated[str | None, Parameter(name="--set")] = None,
    reason: str | None = None,
    json: bool = False,
) -> None:
    """Change a calendar, for nominal times from now on; what is not named stays.

    Args:
        calendar: Its name or id.
        date: A day that is left out; may be given several times. They stand for all of its days.
        icalendar: An iCalendar file whose events are left out.
        skip_invalid: Take the file without the events that cannot be understood, and say which.
        set_: Further fields as a JSON object or @FILE; null takes one away.
        reason: Why; kept in its history.
        json: Print JSON.
    """
    fields = _fields(date, icalendar, set_, skip_invalid=skip_invalid)
    if not fields:
        raise Failure("nothing to change was given", status=2)
    with Client() as client:
        _print(client.calendars.change(calendar, reason=reason, **fields), json)


@app.command
def archive(calendar: str, *, reason: str | None = None, json: bool = False) -> None:
    """Let no schedule begin to use it any more; those that do keep it.

    Args:
        calendar: Its name or id.
        reason: Why; kept in its history.
        json: Print JSON.
    """
    with Client() as client:
        found = client.calendars.archive(calendar, reason)
    if json:
        print_json(found)
    else:
        say(f"{found['name']} is {found['state']}")


def _fields(
    dates: tuple[str, ...], icalendar: Path | None, further: str | None, *, skip_invalid: bool
) -> dict[str, Any]:
    fields = object_of(further, "--set") if further is not None else {}
    unknown = sorted(set(fields) - set(PARTS))
    if unknown:
        raise Failure(f"--set: {unknown[0]} is none of {', '.join(PARTS)}", status=2)
    text = None if icalendar is None else _text(icalendar)
    return {**fields, **given(dates=list(dates) or None, icalendar=text, skip_invalid=skip_invalid or None)}


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--icalendar: {error}", status=2) from None


def _held(calendar: dict[str, Any]) -> str:
    return ", ".join(f"{len(calendar[part])} {part}" for part in PARTS[:3] if calendar.get(part)) + (
        " icalendar" if calendar.get("icalendar") else ""
    )


def _print(found: dict[str, Any], as_json: bool) -> None:  # noqa: FBT001 - passed on
    if as_json:
        print_json(found)
        return
    print_fields({name: value for name, value in found.items() if name not in TOLD})
    for name, what in TOLD.items():
        for told in found.get(name) or ():
            event = f" ({told['event']})" if told.get("event") else ""
            say(f"{what}: line {told['line']}{event}: {told['reason']}")

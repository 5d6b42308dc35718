"""`rota schedules ...`: create, read and change schedules, run and backfill them, see what became of their ticks."""

from __future__ import annotations

import json as json_module
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import App, Parameter

from rota import Client
from rota_server.apps.cli.arguments import arguments_of, pairs
from rota_server.apps.cli.output import Failure, print_fields, print_json, print_table, say

app = App(name="schedules", help="Create, read and change schedules; see what became of their ticks.")

Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]


@Parameter(name="*")
@dataclass
class Rule:
    """When a schedule ticks.

    Attributes:
        cron: Five fields, or six with seconds first; or @hourly and its like; may be given several times.
        every: Seconds from one tick to the next.
        phase: An instant that is a tick of --every.
        rrule: A recurrence rule of RFC 5545, or a set of them.
        on: An instant; may be given several times.
        timezone: An IANA time zone (default: UTC).
        gap: What becomes of times that do not exist: shift or skip.
        fold: Which of times that come twice ticks: first, last or both.
        start: No tick before this instant; without an offset: on the schedule's clock.
        end: No tick after this instant; likewise.
        jitter: Start each job up to so many seconds later.
        calendar: A calendar of exclusions; may be given several times.
    """

    cron: Words = ()
    every: float | None = None
    phase: str | None = None
    rrule: str | None = None
    on: Annotated[tuple[str, ...], Parameter(name=("--on", "--at"), negative="", consume_multiple=False)] = ()
    timezone: str | None = None
    gap: str | None = None
    fold: str | None = None
    start: str | None = None
    end: str | None = None
    jitter: float | None = None
    calendar: Words = ()

    def fields(self) -> dict[str, Any]:
        """What was given, by the names of the HTTP contract."""
        names = ("every", "phase", "rrule", "timezone", "gap", "fold", "start", "end", "jitter")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.cron:
            found["cron"] = self.cron[0] if len(self.cron) == 1 else list(self.cron)
        if self.on:
            found["at"] = list(self.on)
        if self.calendar:
            found["calendars"] = list(self.calendar)
        return found


@Parameter(name="*")
@dataclass
class Policies:
    """What becomes of ticks in special cases, and labels.

    Attributes:
        max_ticks: The rule ends after so many nominal times.
        overlap: allow, skip, queue_one, queue_all, cancel_running or replace.
        catch_up: Which late ticks run: none, latest or all.
        catch_up_window: Seconds after which a late tick does not run any more.
        catch_up_maximum: How many late ticks run at most.
        tag: name=value; may be given several times.
        owner: Whose schedule it is.
        notes: What it is for.
    """

    max_ticks: int | None = None
    overlap: str | None = None
    catch_up: str | None = None
    catch_up_window: float | None = None
    catch_up_maximum: int | None = None
    tag: Words = ()
    owner: str | None = None
    notes: str | None = None

    def fields(self) -> dict[str, Any]:
        """What was given, by the names of the HTTP contract."""
        found: dict[str, Any] = {
            name: value for name in ("overlap", "owner", "notes") if (value := getattr(self, name)) is not None
        }
        if self.max_ticks is not None:
            found["count"] = self.max_ticks
        late = {"policy": self.catch_up, "window": self.catch_up_window, "maximum": self.catch_up_maximum}
        if late := {name: value for name, value in late.items() if value is not None}:
            found["catch_up"] = late
        if self.tag:
            found["tags"] = pairs(self.tag)
        return found


@app.command
def create(  # noqa: PLR0913 - each is an option
    name: str,
    task: str,
    *arguments: str,
    rule: Rule | None = None,
    policies: Policies | None = None,
    queue: str | None = None,
    key: str | None = None,
    job: str | None = None,
    reason: str | None = None,
    json: bool = False,
) -> None:
    """Create a schedule whose ticks submit a job.

    Args:
        name: The schedule's name.
        task: The task of its jobs.
        arguments: name=value; a value that is JSON is taken as JSON, unless the task takes only a text there
            (`rota tasks show TASK`), any other as text.
        rule: When it ticks.
        policies: What becomes of ticks in special cases.
        queue: The queue of its jobs.
        key: The key of its jobs, for limits and fairness.
        job: Further fields of the job as a JSON object, as the HTTP contract has them.
        reason: Why; kept in the history.
        json: Print the schedule as JSON.
    """
    template = _object(job, "--job") if job is not None else {}
    template["task"] = task
    template.update({name: value for name, value in (("queue", queue), ("key", key)) if value is not None})
    fields = {**(rule or Rule()).fields(), **(policies or Policies()).fields()}
    with Client() as client:
        if arguments:
            template["args"] = {**template.get("args", {}), **arguments_of(client, task, arguments)}
        _print(client.schedules.create(name, template, reason=reason, **fields).fields, json)


@app.command(name="list")
def list_schedules(
    *,
    state: str | None = None,
    tag: Words = (),
    owner: str | None = None,
    task: str | None = None,
    limit: int = 50,
    json: bool = False,
) -> None:
    """List schedules, newest first.

    Args:
        state: Only those in this state: active, paused, ended or archived.
        tag: Only those with name:value; may be given several times.
        owner: Only those of this owner.
        task: Only those with jobs of this task.
        limit: How many at most.
        json: Print JSON.
    """
    filters = {"state": state, "tag": list(tag) or None, "owner": owner, "task": task}
    with Client() as client:
        found = [schedule.fields for schedule in client.schedules.list(limit=limit, **filters)]
    if json:
        print_json(found)
        return
    print_table(
        ("NAME", "STATE", "RULE", "ZONE", "NEXT", "TASK"),
        ((s["name"], s["state"], _rule(s), s["timezone"], s["next_local"], s["job"]["task"]) for s in found),
    )


@app.command
def show(schedule: str, *, at: str | None = None, json: bool = False) -> None:
    """Show a schedule.

    Args:
        schedule: Its name or id.
        at: As it was at this position or instant.
        json: Print JSON.
    """
    with Client() as client:
        found = client.schedules.get(schedule, at=at).fields
    if json:
        print_json(found)
    else:
        print_fields(found)


@app.command
def change(
    schedule: str,
    *,
    rule: Rule | None = None,
    policies: Policies | None = None,
    set_: Annotated[str | None, Parameter(name="--set")] = None,
    reason: str | None = None,
    json: bool = False,
) -> None:
    """Change a schedule from now on; what is not named stays.

    Args:
        schedule: Its name or id.
        rule: When it ticks.
        policies: What becomes of ticks in special cases.
        set_: Further fields as a JSON object; null brings a default back.
        reason: Why; kept in the history.
        json: Print the schedule as JSON.
    """
    fields = {**(rule or Rule()).fields(), **(policies or Policies()).fields()}
    if set_ is not None:
        fields.update(_object(set_, "--set"))
    if not fields:
        raise Failure("nothing to change was given", status=2)
    with Client() as client:
        _print(client.schedules.change(schedule, reason=reason, **fields).fields, json)


@app.command
def pause(schedule: str, *, reason: str | None = None, json: bool = False) -> None:
    """No ticks from now on.

    Args:
        schedule: Its name or id.
        reason: Why; kept in the history.
        json: Print the schedule as JSON.
    """
    with Client() as client:
        _print(client.schedules.pause(schedule, reason).fields, json)


@app.command
def resume(schedule: str, *, reason: str | None = None, json: bool = False) -> None:
    """Ticks again from now on.

    Args:
        schedule: Its name or id.
        reason: Why; kept in the history.
        json: Print the schedule as JSON.
    """
    with Client() as client:
        _print(client.schedules.resume(schedule, reason).fields, json)


@app.command
def archive(schedule: str, *, reason: str | None = None, json: bool = False) -> None:
    """End a schedule; its history stays, its name may be used again.

    Args:
        schedule: Its name or id.
        reason: Why; kept in the history.
        json: Print the schedule as JSON.
    """
    with Client() as client:
        _print(client.schedules.archive(schedule, reason).fields, json)


@app.command
def run(schedule: str, *, reason: str | None = None, json: bool = False) -> None:
    """Make a job now, whatever the rule says; print its id.

    Args:
        schedule: Its name or id.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    with Client() as client:
        job_id = client.schedules.run(schedule, reason)
    if json:
        print_json({"job_id": job_id})
    else:
        say(job_id)


@app.command
def backfill(
    schedule: str,
    *,
    start: Annotated[str, Parameter(name="--from")],
    end: Annotated[str, Parameter(name="--to")],
    yes: bool = False,
    limit: int | None = None,
    rate: float | None = None,
    reason: str | None = None,
    json: bool = False,
) -> None:
    """Make up for a past range by what was in force then; what ran already does not run again.

    Args:
        schedule: Its name or id.
        start: The first instant.
        end: The last instant.
        yes: Do it. Otherwise it is only said what would be done.
        limit: How many jobs at most.
        rate: How many jobs become due in a second.
        reason: Why; kept in the history.
        json: Print JSON.
    """
    with Client() as client:
        answer = client.schedules.backfill(schedule, start, end, dry_run=not yes, limit=limit, rate=rate, reason=reason)
    if json:
        print_json(answer)
        return
    print_table(
        ("TIME", "OUTCOME", "REASON", "RUNS AT", "NOTE"),
        ((t["at"], t["outcome"], t["reason"], t["run_at"], t["note"]) for t in answer["ticks"]),
    )
    done = "would be made (--yes makes them)" if answer["dry_run"] else "made"
    say(f"{answer['jobs']} jobs {done}, over {answer['seconds']:g} s")
    if answer.get("note"):
        say(answer["note"])


@app.command
def ticks(
    schedule: str,
    *,
    outcome: str | None = None,
    reason: str | None = None,
    expand: bool = False,
    limit: int = 50,
    json: bool = False,
) -> None:
    """Print what became of nominal times, newest first.

    Args:
        schedule: Its name or id.
        outcome: Only those: ticked, skipped or queued.
        reason: Only those skipped for this reason.
        expand: Every nominal time of a stretch that was skipped as one, not the stretch.
        limit: How many at most.
        json: Print JSON.
    """
    filters = {"outcome": outcome, "reason": reason, "expand": "true" if expand else None}
    with Client() as client:
        found = list(client.schedules.ticks(schedule, limit=limit, **filters))
    if json:
        print_json(found)
        return
    print_table(
        ("TIME", "OUTCOME", "WHY", "JOB", "NOTE"),
        ((_time(t), t["outcome"], t.get("cause") or t.get("reason"), t.get("job_id"), t.get("note")) for t in found),
    )


@app.command
def preview(
    schedule: str | None = None,
    *,
    rule: Rule | None = None,
    after: str | None = None,
    count: int = 10,
    json: bool = False,
) -> None:
    """Print the next times of a schedule, or of a rule that need not be saved.

    Args:
        schedule: A schedule's name or id, instead of a rule.
        rule: When it would tick.
        after: The times after this instant instead of from now on.
        count: How many.
        json: Print JSON.
    """
    with Client() as client:
        found = client.schedules.preview(schedule, after=after, count=count, **(rule or Rule()).fields())
    if json:
        print_json(found)
        return
    print_table(
        ("TIME", "UTC", "OUTCOME", "REASON", "NOTE"),
        ((t["at"], t["utc"], t["outcome"], t["reason"], t["note"]) for t in found),
    )


def _print(fields: dict[str, Any], as_json: bool) -> None:  # noqa: FBT001 - passed on
    if as_json:
        print_json(fields)
        return
    following = "" if fields["next_local"] is None else f", next at {fields['next_local']}"
    say(f"{fields['name']} is {fields['state']}{following}")


def _rule(fields: dict[str, Any]) -> str:
    if fields.get("every") is not None:
        return f"every {fields['every']:g} s"
    if fields.get("at") is not None:
        return f"{len(fields['at'])} instants"
    cron = fields.get("cron")
    return "; ".join(cron) if isinstance(cron, list) else str(cron or fields.get("rrule"))


def _time(tick: dict[str, Any]) -> str:
    if "until" in tick:
        return f"{tick['count']} from {tick['utc']} to {tick['until']}"
    return str(tick["at"])


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        value = json_module.loads(text)
    except ValueError as error:
        raise Failure(f"{option}: {error}", status=2) from None
    if not isinstance(value, dict):
        raise Failure(f"{option} takes a JSON object", status=2)
    return value

"""Schedules in memory: they tick when the client's clock comes to their times."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Optional
from zoneinfo import ZoneInfo

from rota.configured import Configured
from rota.errors import Conflict, NotFound, Refused
from rota.jobs import ENDED, job
from rota.keywords import refuse_ambiguous
from rota.schedules import JobLike, Schedule
from rota.tasks import Task
from rota.testing.cron import Cron

if TYPE_CHECKING:
    from rota.testing.memory import MemoryClient

RULES = ("cron", "every", "at")
KNOWN = (*RULES, "timezone", "start", "end", "phase", "overlap", "tags", "owner", "notes")
DEFAULTS = {"gap": "shift", "fold": "first", "jitter": 0, "calendars": []}
"""Fields that the store knows, with the only value that they may have here."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
Next = Callable[[datetime], Optional[datetime]]


class MemorySchedules:
    """The schedules of a client, as `Client.schedules`."""

    def __init__(self, client: "MemoryClient") -> None:
        self._client = client
        self._schedules: "Dict[str, Dict[str, Any]]" = {}
        self._ticks: "Dict[str, List[Dict[str, Any]]]" = {}
        self._rules: "Dict[str, Next]" = {}

    def create(self, name: str, job: JobLike, *, reason: Optional[str] = None, **fields: Any) -> Schedule:
        """As `Schedules.create`. Raises NotImplementedError for a rule or policy that MemoryClient does not have."""
        if any(one["name"] == name and one["state"] != "archived" for one in self._schedules.values()):
            raise Conflict(409, {"detail": f"name: there is a schedule {name} already", "field": "name"})
        rule = _rule(fields)
        self._client.prepared(self._spec(job), "", {}, "job")
        found = {
            "id": str(uuid.uuid4()), "name": name, "state": "active", "job": self._spec(job), "reason": reason,
            **_json(fields), "ticked": 0, "skipped": 0,
        }  # fmt: skip
        self._schedules[found["id"]], self._ticks[found["id"]] = found, []
        self._start(found, rule)
        return self._view(found)

    def get(self, schedule: str) -> Schedule:
        """As `Schedules.get`."""
        return self._view(self._find(schedule))

    def list(self, **filters: Any) -> "Iterator[Schedule]":
        """Schedules with these fields, newest first."""
        for found in [*self._schedules.values()][::-1]:
            if all(found.get(name) == value for name, value in filters.items()):
                yield self._view(found)

    def change(self, schedule: str, *, reason: Optional[str] = None, **fields: Any) -> Schedule:
        """As `Schedules.change`."""
        found = self._find(schedule)
        if "job" in fields:
            found["job"] = self._spec(fields.pop("job"))
        if fields:
            rules = dict.fromkeys(RULES) if any(name in fields for name in RULES) else {}
            merged = {name: value for name, value in {**found, **rules, **fields}.items() if value is not None}
            rule = _rule({name: merged[name] for name in (*KNOWN, *DEFAULTS, *fields) if name in merged})
            found.update({**rules, **_json(fields)})
            self._start(found, rule)
        found["reason"] = reason
        return self._view(found)

    def pause(self, schedule: str, reason: Optional[str] = None) -> Schedule:
        """No ticks from now on."""
        return self._turn(schedule, "paused", reason)

    def resume(self, schedule: str, reason: Optional[str] = None) -> Schedule:
        """Ticks again from now on."""
        found = self._find(schedule)
        if found["state"] == "paused":
            self._start(found, self._rules[found["id"]])
        return self._turn(schedule, "active", reason)

    def archive(self, schedule: str, reason: Optional[str] = None) -> Schedule:
        """The end of the schedule."""
        return self._turn(schedule, "archived", reason)

    def run(self, schedule: str, reason: Optional[str] = None) -> str:
        """Make a job now; its id."""
        found = self._find(schedule)
        if found["state"] == "archived":
            raise Conflict(409, {"detail": f"the schedule {found['name']} is archived", "field": "state"})
        return self._submit(found, reason)

    def ticks(self, schedule: str, **filters: Any) -> "Iterator[Dict[str, Any]]":
        """What became of nominal times, newest first: `utc`, `outcome`, `job_id`."""
        for tick in reversed(self._ticks[self._find(schedule)["id"]]):
            if all(tick.get(name) == value for name, value in filters.items()):
                yield dict(tick)

    def preview(
        self, schedule: Optional[str] = None, *, after: Any = None, count: int = 10, **rule: Any
    ) -> "List[Dict[str, Any]]":
        """The next `count` times of a schedule, or of a rule, in UTC."""
        following = _rule(rule) if schedule is None else self._rules[self._find(schedule)["id"]]
        at = self._client.now if after is None else _instant(after, timezone.utc)
        found: "List[Dict[str, Any]]" = []
        while len(found) < count and (later := following(at)) is not None:
            at = later
            found.append({"utc": _text(at), "outcome": "tick"})
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotImplementedError(f"schedules.{name}: MemoryClient does not have it; docs/testing.md says what it has")

    # -- what the client's clock asks --------------------------------------------------------------------------------

    def next_time(self) -> Optional[datetime]:
        """When the next tick is."""
        times = [found["_next"] for found in self._schedules.values() if found["state"] == "active" and found["_next"]]
        return min(times, default=None)

    def tick(self) -> bool:
        """Submit what is due by the client's clock; whether something was."""
        due = [
            found
            for found in self._schedules.values()
            if found["state"] == "active" and found["_next"] is not None and found["_next"] <= self._client.now
        ]
        for found in sorted(due, key=lambda found: found["_next"]):
            nominal = found["_next"]
            found["_next"] = self._rules[found["id"]](nominal)
            tick: "Dict[str, Any]" = {"utc": _text(nominal), "outcome": "ticked", "job_id": None, "reason": None}
            if found.get("overlap") == "skip" and self._open(found):
                tick.update(outcome="skipped", reason="overlap")
                found["skipped"] += 1
            else:
                tick["job_id"] = self._submit(found, None)
                found["ticked"] += 1
            self._ticks[found["id"]].append(tick)
        return bool(due)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _start(self, found: "Dict[str, Any]", rule: Next) -> None:
        self._rules[found["id"]] = rule
        found["_next"] = rule(self._client.now)

    def _spec(self, given: JobLike) -> "Dict[str, Any]":
        spec = job(given) if isinstance(given, (str, Task, Configured)) else given
        refuse_ambiguous([("job", spec)], self._client.parameters_of)
        for name in ("run_at", "delay", "expires_at", "after", "unique"):
            if name in spec:
                raise Refused(422, {"detail": f"job.{name}: a schedule's job takes none", "field": f"job.{name}"})
        return dict(spec)

    def _submit(self, found: "Mapping[str, Any]", reason: Optional[str]) -> str:
        fields = self._client.prepared(found["job"], str(uuid.uuid4()), {}, "job")
        fields.update(origin={"kind": "schedule", "id": found["id"], "name": found["name"]}, reason=reason)
        self._client.add([fields])
        return str(fields["id"])

    def _open(self, found: "Mapping[str, Any]") -> bool:
        origins = (one for one in self._client.list() if (one.origin or {}).get("id") == found["id"])
        return any(one.state not in ENDED for one in origins)

    def _turn(self, schedule: str, state: str, reason: Optional[str]) -> Schedule:
        found = self._find(schedule)
        if found["state"] == "archived":
            raise Conflict(409, {"detail": f"the schedule {found['name']} is archived", "field": "state"})
        found.update(state=state, reason=reason)
        return self._view(found)

    def _find(self, schedule: str) -> "Dict[str, Any]":
        for found in [*self._schedules.values()][::-1]:
            if schedule == found["id"] or schedule == found["name"]:
                return found
        raise NotFound(404, {"detail": f"there is no schedule {schedule}", "field": "schedule"})

    @staticmethod
    def _view(found: "Mapping[str, Any]") -> Schedule:
        shown = {name: value for name, value in found.items() if not name.startswith("_")}
        following = found["_next"] if found["state"] == "active" else None
        return Schedule({**shown, "next_at": None if following is None else _text(following)})


def _rule(fields: "Mapping[str, Any]") -> Next:
    """The next time after an instant. Raises NotImplementedError for what MemoryClient does not have."""
    for name, value in fields.items():
        if name not in KNOWN and value != DEFAULTS.get(name, object()):
            raise NotImplementedError(f"{name}: MemoryClient's schedules do not have it; run the system itself for it")
    if fields.get("overlap") not in (None, "allow", "skip"):
        raise NotImplementedError("overlap: MemoryClient knows allow and skip")
    kinds = [name for name in RULES if fields.get(name) is not None]
    if len(kinds) != 1:
        raise Refused(422, {"detail": "exactly one of cron, every, rrule, at is needed", "field": "cron"})
    zone: tzinfo = ZoneInfo(fields["timezone"]) if fields.get("timezone") else timezone.utc
    start, end = (None if fields.get(name) is None else _instant(fields[name], zone) for name in ("start", "end"))
    times = _times(kinds[0], fields, zone, start)

    def following(instant: datetime) -> Optional[datetime]:
        if start is not None and instant < start:
            instant = start - timedelta(microseconds=1)
        found = times(instant)
        return None if found is None or (end is not None and found > end) else found

    return following


def _times(kind: str, fields: "Mapping[str, Any]", zone: tzinfo, start: Optional[datetime]) -> Next:
    if kind == "cron":
        if not isinstance(fields["cron"], str):
            raise NotImplementedError("cron: MemoryClient knows one line")
        return Cron(fields["cron"], zone).after
    if kind == "at":
        instants = sorted({_instant(one, zone) for one in fields["at"]})
        return lambda instant: next((one for one in instants if one > instant), None)
    step = timedelta(seconds=fields["every"])
    phase = (start or EPOCH) if fields.get("phase") is None else _instant(fields["phase"], zone)
    return lambda instant: phase + ((instant - phase) // step + 1) * step


def _instant(value: Any, zone: tzinfo) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
    found: datetime = value if value.tzinfo is not None else value.replace(tzinfo=zone)
    return found.astimezone(timezone.utc)


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _json(fields: "Mapping[str, Any]") -> "Dict[str, Any]":
    found: "Dict[str, Any]" = json.loads(json.dumps(dict(fields), default=lambda value: value.isoformat()))
    return found

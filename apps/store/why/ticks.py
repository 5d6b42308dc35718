"""Why a schedule did or did not make a job for an instant: from what its stream says, or else from its rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rota_server.apps.store.parts import Parts
from rota_server.apps.store.schedules.handlers import Schedules
from rota_server.apps.store.schedules.views import tick_view
from rota_server.domain.errors import Unavailable
from rota_server.domain.log import Recorded
from rota_server.domain.recurrence.times import nominal_times
from rota_server.domain.schedules import definition as definitions
from rota_server.domain.schedules import events as e
from rota_server.domain.schedules.schedule import Schedule

PAGE = 500
PAGES = 200
"""So far back outcomes are looked for, at least."""

NEIGHBOURS = timedelta(microseconds=1)

TEXTS = {
    "overlap": "a job of the schedule had not ended",
    "paused": "the schedule was paused",
    "calendar": "a calendar excludes it",
    "dst_gap": "its wall-clock time did not exist: the clocks went forward over it",
    "past_catch_up": "it was late, and the schedule's catch-up policy does not make up for it",
    "limit": "more ticks waited than the schedule allows",
    "ended": "the schedule had ended",
}


class WhyTicks:
    """Explains ticks."""

    def __init__(self, parts: Parts, schedules: Schedules) -> None:
        self._parts = parts
        self._schedules = schedules

    async def explain(self, reference: str, at: datetime | None) -> dict[str, Any]:
        """What became of the nominal time `at`; None: of the next one. Raises NotFound, Unavailable."""
        schedule, row = await self._schedules.load(reference)
        if at is None:
            reasons = [*self._next(schedule), *await self._without_leader()]
        else:
            found = await self._outcome(reference, at)
            reasons = [await self._told(reference, found)] if found is not None else self._untold(schedule, at)
            if found is None and at > schedule.cursor:
                reasons += await self._without_leader()
        return {
            "schedule": schedule.id,
            "name": schedule.name,
            "state": schedule.state,
            "at": at,
            "reasons": reasons,
            "summary": " ".join(reason["text"] for reason in reasons),
            "position": row.position,
        }

    # -- what the stream says ----------------------------------------------------------------------------------------

    async def _outcome(self, reference: str, at: datetime) -> Recorded | None:
        """The event that says what became of the instant; the last one, since a backfill may have added to it."""
        return await self._search(reference, lambda recorded: _covers(recorded.event, at))

    async def _search(self, reference: str, wanted: Any) -> Recorded | None:
        before: int | None = None
        for _ in range(PAGES):
            found, before = await self._schedules.ticks(reference, before, PAGE, wanted)
            if found:
                return found[0]
            if before is None:
                return None
        return None

    async def _told(self, reference: str, recorded: Recorded) -> dict[str, Any]:
        event = recorded.event
        view = tick_view(recorded) or {}
        facts = {**view, "event": recorded.position}
        if isinstance(event, e.ScheduleTicked):
            note = "" if event.note is None else f" ({event.note})"
            text = f"It ticked{note}: job {event.job_id}, cause {event.cause}."
            return _reason("ticked", text, facts)
        if isinstance(event, e.TickQueued):
            jobs = ", ".join(event.blocked_by)
            return _reason("queued", f"It waits for the end of the jobs before it: {jobs}.", facts)
        assert isinstance(event, e.TickSkipped | e.TicksSkipped)  # noqa: S101 - `_covers` knows no others
        text = f"It was skipped: {TEXTS[event.reason]}."
        if isinstance(event, e.TickSkipped):
            if event.blocked_by:
                text = f"It was skipped: {', '.join(event.blocked_by)} had not ended."
            elif event.note is not None:
                text = f"It was skipped: {TEXTS[event.reason]} ({event.note})."
        if event.reason == "paused":
            paused = await self._search(reference, lambda r: _is_pause(r, recorded.position))
            if paused is not None:
                because = getattr(paused.event, "reason", None)
                facts |= {"by": paused.meta.actor, "since": paused.recorded_at, "because": because}
                text = f"It was skipped: {paused.meta.actor} had paused the schedule{_because(because)}."
        return _reason(f"skipped_{event.reason}", text, facts)

    # -- what the rule says ------------------------------------------------------------------------------------------

    def _untold(self, schedule: Schedule, at: datetime) -> list[dict[str, Any]]:
        timing = definitions.timing(schedule)
        following = next(nominal_times(timing, at - NEIGHBOURS), None)
        if following is None or following.at != at:
            text = f"{_text(at)} is no nominal time of the rule that is in force (revision {schedule.revision})."
            if following is not None:
                text += f" The next one behind it is {_text(following.at)} ({following.local})."
            facts = {"revision": schedule.revision, "following": None if following is None else following.at}
            return [_reason("no_nominal_time", text, facts)]
        if at <= schedule.created_at:
            return [_reason("before_creation", f"The schedule is newer than that: {_text(schedule.created_at)}.", {})]
        if at > self._parts.now():
            reasons = [_reason("not_due", f"Its time has not come: it is {_text(at)} ({following.local}).", {})]
            return [*reasons, *self._pause(schedule)]
        if at <= schedule.cursor:
            text = "By the rule that is in force now it would be a nominal time; by the one in force then it was none."
            return [_reason("other_rule", text, {"revision": schedule.revision})]
        text = "Its time has come; the leader will decide about it."
        if schedule.state == "paused":
            text = "It falls into a pause and is recorded as skipped when that ends."
        return [_reason("owed", text, {"settled_until": schedule.cursor}), *self._pause(schedule)]

    def _next(self, schedule: Schedule) -> list[dict[str, Any]]:
        if schedule.state in ("archived", "ended"):
            text = f"The schedule is {schedule.state}: nothing ticks any more."
            return [_reason(schedule.state, text, {"by": schedule.actor, "since": schedule.at})]
        following = next(nominal_times(definitions.timing(schedule), self._parts.now()), None)
        if following is None:
            return [_reason("ended", "The rule names no instant any more.", {})]
        paused = self._pause(schedule)
        text = f"The next nominal time is {_text(following.at)} ({following.local})"
        text += "; while the pause lasts it is skipped." if paused else "."
        facts = {"utc": following.at, "local": following.local, "outcome": following.outcome}
        reasons = [*paused, _reason("not_due", text, facts)]
        if schedule.queued:
            count = len(schedule.queued)
            text = f"{count} ticks wait for the end of {len(schedule.open)} jobs of the schedule."
            reasons.append(_reason("queued", text, {"open_jobs": schedule.open}))
        return reasons

    def _pause(self, schedule: Schedule) -> list[dict[str, Any]]:
        if schedule.state != "paused":
            return []
        text = f"{schedule.actor} has paused the schedule since {_text(schedule.at)}{_because(schedule.reason)}."
        facts = {"by": schedule.actor, "since": schedule.at, "because": schedule.reason}
        return [_reason("paused", text, facts)]

    async def _without_leader(self) -> list[dict[str, Any]]:
        try:
            leader = await self._parts.coordination.leader()
        except Unavailable as error:
            return [_reason("leader_unknown", f"Whether anybody leads is not known now: {error}.", {})]
        return [] if leader is not None else [_reason("no_leader", "No scheduler leads now: nothing ticks.", {})]


def _covers(event: Any, at: datetime) -> bool:
    if isinstance(event, e.TicksSkipped):
        return bool(event.first <= at <= event.until)
    if isinstance(event, e.ScheduleTicked):
        return bool(event.nominal == at and event.cause != "manual")
    return isinstance(event, e.TickSkipped | e.TickQueued) and bool(event.nominal == at)


def _is_pause(recorded: Recorded, before: int) -> bool:
    return isinstance(recorded.event, e.SchedulePaused) and recorded.position < before


def _reason(code: str, text: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: value for name, value in facts.items() if name not in ("code", "text")},
        "code": code,
        "text": text,
    }


def _because(reason: str | None) -> str:
    return "" if reason is None else f": {reason}"


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

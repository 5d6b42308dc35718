"""Who waits for whose end, and what follows from an end. A pure state machine.

Predecessors are jobs, workflows or batches, named by the ids of their streams. A dependent is known here from its
submission (or its entry in the table of dependencies) until it no longer waits. What it waits for in detail is loaded
only when that matters: for a dependent of the table once a predecessor of its has ended.

Which end of a predecessor counts is decided by positions in the log, so that what was read from the tables and what
comes by the feed may overlap in any order. A verdict that is given twice is harmless: whether the dependent still
waits its own stream says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal, NamedTuple

from rota_server.domain.ids import Position
from rota_server.domain.jobs.spec import After, Predecessor

REPEAT = timedelta(seconds=3)
"""When a verdict is given again if nothing has come of it."""

OPEN = "open"
"""The state of a predecessor that has not ended; nothing here distinguishes further."""

FAILED = frozenset({"failed", "cancelled", "expired"})
ENDS = FAILED | {"succeeded"}


class Status(NamedTuple):
    """A predecessor's state (one of ENDS or OPEN) after the event at `position`."""

    state: str
    position: Position


class Verdict(NamedTuple):
    """What is to become of a dependent: it may `run`, or is to be `cancelled` for `reason`."""

    dependent: str
    kind: Literal["run", "cancel"]
    reason: str | None = None


def judge(
    after: After, ids: Sequence[str], states: Mapping[str, Status]
) -> tuple[Literal["wait", "run", "cancel"], str | None]:
    """What follows for a dependent from its predecessors' present states; unknown ones have not ended.

    `ids` are those of the predecessors, in their order, as the states have them.

    It runs as soon as what it waits for has come true. When that cannot come true any more, `on_failure` says what
    becomes of it: `cancel` at once; `run` when every predecessor has ended; `hold` waits until it can again.
    """
    met = unmet = 0
    broken: tuple[Predecessor, str] | None = None
    for predecessor, identity in zip(after.predecessors, ids, strict=True):
        status = states.get(identity)
        if status is None or status.state not in ENDS:
            continue
        if _matches(predecessor, status.state):
            met += 1
        else:
            unmet += 1
            broken = broken or (predecessor, status.state)
    total = len(after.predecessors)
    if met == total or (after.mode == "any" and met):
        return "run", None
    if broken is None or (after.mode == "any" and unmet < total):
        return "wait", None
    if after.on_failure == "run" and met + unmet == total:
        return "run", None
    if after.on_failure == "cancel":
        return "cancel", _reason(*broken)
    return "wait", None


def _matches(predecessor: Predecessor, state: str) -> bool:
    if predecessor.outcome == "ended":
        return True
    return state == "succeeded" if predecessor.outcome == "succeeded" else state in FAILED


def _reason(predecessor: Predecessor, state: str) -> str:
    own = str(predecessor.id)
    called = own if predecessor.name == own else f"{predecessor.name} ({own})"
    return f"its predecessor {called} ended as {state}, not as {predecessor.outcome}"


class Dependencies:
    """All dependents that wait, and what is known of their predecessors. Ids are the texts of the feed."""

    def __init__(self) -> None:
        self._waiters: dict[str, dict[str, None]] = {}
        self._awaits: dict[str, tuple[str, ...]] = {}
        self._afters: dict[str, After] = {}
        self._states: dict[str, Status] = {}
        self._fresh: dict[str, None] = {}
        self._touched: dict[str, None] = {}
        self._given: dict[str, datetime] = {}
        self._left: dict[str, None] = {}

    def __contains__(self, dependent: str) -> bool:
        return dependent in self._awaits

    def __len__(self) -> int:
        return len(self._awaits)

    # -- what happens ------------------------------------------------------------------------------------------------

    def found(self, pairs: Iterable[tuple[str, str]], undecided: Iterable[str]) -> None:
        """Take in the table: (predecessor, dependent), and the dependents of which a predecessor has ended."""
        awaits: dict[str, list[str]] = {}
        for predecessor, dependent in pairs:
            awaits.setdefault(dependent, []).append(predecessor)
        for dependent, predecessors in awaits.items():
            if dependent not in self._awaits:
                self._wait(dependent, tuple(predecessors))
        self._fresh.update((dependent, None) for dependent in undecided if dependent in self._awaits)

    def found_left(self, dependents: Iterable[str]) -> None:
        """The table still names these, which do not wait any more."""
        self._left.update((dependent, None) for dependent in dependents if dependent not in self._awaits)

    def submitted(self, dependent: str, after: After) -> None:
        """A job was submitted that waits; its predecessors may have ended already."""
        self._wait(dependent, tuple(str(predecessor.id) for predecessor in after.predecessors))
        self._afters[dependent] = after
        self._fresh[dependent] = None

    def waits_again(self, dependent: str) -> None:
        """A job was asked to run again and waits first. What for has to be loaded."""
        self._wait(dependent, ())
        self._fresh[dependent] = None

    def ended(self, predecessor: str, state: str, position: Position) -> None:
        """A stream has ended (or is OPEN again) by the event at `position`."""
        if predecessor not in self._waiters:
            return
        known = self._states.get(predecessor)
        if known is not None and known.position >= position:
            return
        self._states[predecessor] = Status(state, position)
        self._touched.update(self._waiters[predecessor])

    def left(self, dependent: str) -> None:
        """A job does not wait for others any more, whatever it does now."""
        predecessors = self._awaits.pop(dependent, None)
        if predecessors is None:
            return
        for predecessor in predecessors:
            waiters = self._waiters[predecessor]
            waiters.pop(dependent, None)
            if not waiters:
                del self._waiters[predecessor]
                self._states.pop(predecessor, None)
        for remembered in (self._afters, self._fresh, self._touched, self._given):
            remembered.pop(dependent, None)
        self._left[dependent] = None

    def _wait(self, dependent: str, predecessors: tuple[str, ...]) -> None:
        if dependent in self._awaits:
            self.left(dependent)
        self._left.pop(dependent, None)
        # Many wait for the same one: its id is kept once.
        predecessors = self._awaits[dependent] = tuple(sys.intern(predecessor) for predecessor in predecessors)
        for predecessor in predecessors:
            self._waiters.setdefault(predecessor, {})[dependent] = None

    # -- what has to be loaded ---------------------------------------------------------------------------------------

    def take_fresh(self, limit: int, edges: int) -> list[str]:
        """Up to `limit` dependents with up to `edges` predecessors in all (one at least) that are to be looked at."""
        taken: list[str] = []
        for dependent in self._fresh:
            edges -= len(self._awaits[dependent])
            if taken and (len(taken) >= limit or edges < 0):
                break
            taken.append(dependent)
        for dependent in taken:
            del self._fresh[dependent]
        return taken

    def again(self, dependents: Iterable[str]) -> None:
        """These could not be looked at."""
        self._fresh.update((dependent, None) for dependent in dependents if dependent in self._awaits)

    def without_details(self, dependents: Iterable[str]) -> list[str]:
        """Those of them of which only the table's entry is known."""
        return [dependent for dependent in dependents if dependent not in self._afters and dependent in self._awaits]

    def details(self, asked: Iterable[str], afters: Mapping[str, After]) -> None:
        """What the asked dependents wait for; one that is missing does not wait any more."""
        for dependent in asked:
            after = afters.get(dependent)
            if after is None:
                self.left(dependent)
            elif dependent in self._awaits:
                self._wait(dependent, tuple(str(predecessor.id) for predecessor in after.predecessors))
                self._afters[dependent] = after

    def predecessors(self, dependents: Iterable[str]) -> list[str]:
        """Whom these dependents wait for, each once."""
        return list({p: None for dependent in dependents for p in self._awaits.get(dependent, ())})

    def statuses(self, dependents: Iterable[str], statuses: Mapping[str, Status]) -> None:
        """What was read of the predecessors of these dependents, which can be judged now."""
        for predecessor, status in statuses.items():
            self.ended(predecessor, *status)
        self._touched.update((dependent, None) for dependent in dependents if dependent in self._awaits)

    # -- what follows ------------------------------------------------------------------------------------------------

    def verdicts(self, now: datetime, limit: int) -> list[Verdict]:
        """What is to become of dependents, at most `limit`. Each is named again after REPEAT, until it has left."""
        given: list[Verdict] = []
        while self._touched and len(given) < limit:
            for dependent in _take(self._touched, limit - len(given)):
                after = self._afters.get(dependent)
                if after is None:
                    self._fresh[dependent] = None
                    continue
                kind, reason = judge(after, self._awaits[dependent], self._states)
                if kind != "wait":
                    self._given.pop(dependent, None)
                    self._given[dependent] = now
                    given.append(Verdict(dependent, kind, reason))
        return given

    def repeat(self, now: datetime) -> datetime | None:
        """Look again at dependents whose verdict has led to nothing; when to do this next, None for never."""
        overdue: list[str] = []
        following: datetime | None = None
        for dependent, at in self._given.items():
            if now - at < REPEAT:
                following = at + REPEAT
                break
            overdue.append(dependent)
        for dependent in overdue:
            del self._given[dependent]
            self._afters.pop(dependent, None)
            self._fresh[dependent] = None
        return following

    def take_left(self, limit: int) -> list[str]:
        """Up to `limit` dependents that do not wait any more: the table may forget them."""
        return _take(self._left, limit)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to load, to judge or to forget."""
        return not (self._fresh or self._touched or self._left)


def _take(waiting: dict[str, None], limit: int) -> list[str]:
    """Take the first ones out. In portions: whoever looks for the first one passes over all that were taken before."""
    taken = list(islice(waiting, limit))
    for name in taken:
        del waiting[name]
    return taken

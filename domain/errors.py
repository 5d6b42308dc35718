"""The tree of errors that Rota's parts raise to each other.

Each class says what the catcher can do about it; adapters translate a driver's errors into these at the edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID


class RotaError(Exception):
    """Anything that Rota raises on purpose."""


class Conflict(RotaError):
    """Somebody else wrote to the stream first: reload it and decide again."""

    def __init__(self, message: str, *, streams: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.streams = tuple(streams)


class Rejected(RotaError):
    """The request cannot be carried out as it is; the caller has to change it.

    `field` is the dotted path of what is wrong (`args.url`), None when it is not about one field.
    `code` is a stable slug that programs may compare.
    """

    def __init__(self, message: str, *, field: str | None = None, code: str = "invalid") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.code = code


class NotFound(Rejected):
    """There is no such job, stream or resource."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message, field=field, code="not-found")


class WrongSetting(Rejected):
    """A process's settings cannot be honoured, or a server refuses what they say: to start again does not help."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message, field=field, code="invalid-setting")


class NotPossible(Rejected):
    """The command is well formed but the state does not allow it, for instance cancelling a finished job."""

    def __init__(self, message: str, *, code: str = "state", field: str = "state") -> None:
        super().__init__(message, field=field, code=code)


class NotUnique(NotPossible):
    """Another job holds the unique key."""

    def __init__(self, message: str, *, job: UUID) -> None:
        super().__init__(message, code="not-unique", field="unique.key")
        self.job = job


class Unavailable(RotaError):
    """A server that is needed does not answer now: retry with backoff and jitter."""

    def __init__(self, message: str, *, server: str) -> None:
        super().__init__(message)
        self.server = server


class Refused(Unavailable):
    """The server answers and does not want us: wrong password, role, database or certificate.

    At the start of a process that is a mistake in its settings; later it is an outage like any other, until whoever has
    changed the server gives us access again.
    """


class Unexpected(Unavailable):
    """A server answers, with an error that nobody expected; nothing was written.

    To be kept and tried again like any other answer that did not come: what is wrong may be mended meanwhile.
    """


class NotLeader(RotaError):
    """A newer term of leadership exists: step down, decide nothing more."""

    def __init__(self, message: str, *, own_term: int, current_term: int | None = None) -> None:
        super().__init__(message)
        self.own_term = own_term
        self.current_term = current_term


class Unreadable(NotPossible):
    """One stream holds an event that this version of Rota cannot read or place: decide nothing about that stream.

    Whoever works on many streams sets this one aside, says so, and goes on with the others.
    """

    def __init__(self, message: str, *, stream_id: UUID | None = None, position: int | None = None) -> None:
        super().__init__(message, code="unreadable")
        self.stream_id = stream_id
        self.position = position


class Corruption(RotaError):
    """The log is not what it must be (a gap in the positions, another log's feed): stop, never skip."""

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position

"""How a built-in task says that it has failed."""

from __future__ import annotations


class TaskFailed(Exception):
    """The attempt failed. `kind` is what stands as the error's type; `retryable`: another attempt may help."""

    def __init__(self, kind: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable

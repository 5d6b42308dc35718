"""What a task takes (P) and returns (R), for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import ParamSpec
    from typing_extensions import TypeVar as _TypeVar

    P = ParamSpec("P")
    R = _TypeVar("R", default=Any)
else:  # Python 3.9 has neither, and whoever runs a task needs none
    P = TypeVar("P")
    R = TypeVar("R")

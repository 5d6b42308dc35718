"""Suggestions for names that people mistype."""

from __future__ import annotations

import difflib
from typing import Iterable


def did_you_mean(name: object, known: "Iterable[str]") -> str:
    """The end of a message about an unknown name: `; did you mean 'x'?`, or nothing."""
    close = difflib.get_close_matches(str(name)[:200], sorted(known)[:500], n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""

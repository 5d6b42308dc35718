"""References to secrets: a job names one, and the executor puts it in its place when an attempt begins."""

from __future__ import annotations

from typing import Dict


def secret(name: str, *, prefix: str = "", suffix: str = "") -> "Dict[str, str]":
    """What stands in a job's arguments for the executor's secret with this name, with texts before and after it.

    The secret never reaches the store: the log keeps the name. See docs/secrets.md for where executors find secrets.
    """
    reference = {"$secret": name}
    if prefix:
        reference["prefix"] = prefix
    if suffix:
        reference["suffix"] = suffix
    return reference

"""Which tests run in the same process, one after the other.

pytest-xdist's own `--dist loadgroup` marks a test's id, which pytest 9 no longer lets it do: its groups are silently
not kept. Here the place of a test decides.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/chaos/": "chaos",
    "tests/integration/test_documents.py": "documents",
    "tests/integration/test_newcomer.py": "up",
    "tests/integration/test_schedule_commands.py": "up",
    "tests/integration/test_up.py": "up",
}
"""Whole systems: two drills on two cores would only slow each other down."""


class ByPlace(LoadScopeScheduling):
    """Hands out tests one by one, but those of one group to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return next((group for place, group in TOGETHER.items() if nodeid.startswith(place)), nodeid)


def make(config: Any, log: Any) -> ByPlace:
    """The scheduler, with the largest groups first."""
    return ByPlace(config, log)

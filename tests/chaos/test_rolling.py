"""A short deploy: one of each role, up and down again, from the older version's sources in git with today's libraries.

`./dev rolling` does it with its wheels and its own libraries, two of each role and a thousand jobs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rolling.deploy import OLD_COMMIT, fleet, up_and_down  # noqa: F401 - a fixture
from tests.rolling.fleet import Fleet, is_shallow, sources_of, this_version

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

JOBS = 80
PLACES = ("store-1", "relay-1", "scheduler-1", "executor-1")


@pytest.mark.skipif(is_shallow(), reason="a shallow clone has no older version: git fetch --unshallow")
def test_a_version_up_and_down_again_under_load(fleet: Fleet, tmp_path: Path) -> None:  # noqa: F811
    old = sources_of(OLD_COMMIT, tmp_path / "old")
    up_and_down(fleet, old, this_version(), places=PLACES, jobs=JOBS)

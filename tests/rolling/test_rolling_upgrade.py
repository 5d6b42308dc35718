"""One version up and one down again under load, process by process: no job is lost, no attempt runs twice.

`./dev rolling` runs it: the older version is installed from wheels that are built from git. The suite has a short one
of the same kind (`tests/chaos/test_rolling.py`).
"""

from __future__ import annotations

import pytest

from tests.rolling.deploy import OLD_COMMIT, fleet, up_and_down  # noqa: F401 - a fixture
from tests.rolling.fleet import Fleet, Version, built_from, this_version

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

JOBS = 1_000
PLACES = ("store-1", "store-2", "relay-1", "relay-2", "scheduler-1", "scheduler-2", "executor-1", "executor-2")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return built_from(OLD_COMMIT, tmp_path_factory.mktemp("old"))


def test_a_version_up_and_down_again_under_load(old: Version, fleet: Fleet) -> None:  # noqa: F811
    up_and_down(fleet, old, this_version(), places=PLACES, jobs=JOBS)

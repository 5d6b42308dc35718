"""One system for all drills that need no other: each begins with it whole, and after one that failed with a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.system import System, system

FAILED = pytest.StashKey[bool]()


class Shared:
    """The system that runs now, if there is one."""

    def __init__(self, make_place: Callable[[], Path]) -> None:
        self._make_place = make_place
        self._stack = ExitStack()
        self._system: System | None = None

    def whole(self) -> System:
        if self._system is None:
            place = self._make_place()
            for folder in (place, place.parent):
                folder.chmod(0o755)
            self._system = self._stack.enter_context(system(place, ROTA_CONCURRENCY="10"))
        self._system.until_whole()
        return self._system

    def end(self) -> None:
        self._system = None
        self._stack.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def shared_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    shared = Shared(lambda: tmp_path_factory.mktemp("system"))
    yield shared
    shared.end()


@pytest.fixture
def found(shared_system: Shared, request: pytest.FixtureRequest) -> Iterator[System]:
    """Two executors and two schedulers, all of them there, without ZooKeeper."""
    yield shared_system.whole()
    if request.node.stash.get(FAILED, False):
        shared_system.end()

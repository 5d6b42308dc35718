"""Loads the tasks again when their files change: for development, `rota up --reload`.

New task processes take the place of the old ones only once they have loaded everything; what runs ends where it is.
Files are compared every half second, which works wherever they lie (docs/decisions/0039-reload.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from rota_server.apps.executor.processes.pool import TaskProcesses

log = logging.getLogger("rota.executor.reload")

LOOK_SECONDS = 0.5
QUIET_SECONDS = 0.1
"""After a change nothing else may change for so long: editors and checkouts write several files."""

FOLDERS_LIMIT = 500
Seen = Mapping[str, tuple[int, int]]


class Reloading:
    """Watches the folders of the files that the tasks were loaded from. `notes` is told how each reload went."""

    def __init__(self, python: TaskProcesses, notes: Path | None = None) -> None:
        self._python = python
        self._notes = notes
        self._seen = _seen(python.files)

    async def watch(self) -> None:
        """Load again at each change, forever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = await asyncio.to_thread(_seen, self._python.files)
            if now == self._seen:
                continue
            while now != self._seen:
                self._seen = now
                await asyncio.sleep(QUIET_SECONDS)
                now = await asyncio.to_thread(_seen, self._python.files)
            await self._reload()

    async def _reload(self) -> None:
        problem = await self._python.reload()
        if problem is None:
            said = f"tasks loaded again: {', '.join(sorted(self._python.tasks))}"
            log.info("%s", said)
        else:
            said = f"the change is not used, the tasks of before go on: {problem}"
            log.error("%s", said)
        # Files that were imported for the first time are new, and no change.
        known = await asyncio.to_thread(_seen, self._python.files)
        watched = {os.path.dirname(file) for file in self._seen}  # noqa: PTH120 - as below
        added = {file: state for file, state in known.items() if os.path.dirname(file) not in watched}  # noqa: PTH120
        self._seen = {**self._seen, **added}
        if self._notes is not None:
            fresh = self._notes.with_suffix(".new")
            fresh.write_text(said + "\n", encoding="utf-8")
            fresh.replace(self._notes)


def _seen(files: Iterable[str]) -> Seen:
    """Every Python file in the folders of these, with its time of change and its size."""
    found: dict[str, tuple[int, int]] = {}
    for folder in sorted({os.path.dirname(file) for file in files})[:FOLDERS_LIMIT]:  # noqa: PTH120 - it is quicker
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    with contextlib.suppress(OSError):
                        status = entry.stat()
                        found[entry.path] = (status.st_mtime_ns, status.st_size)
    return found

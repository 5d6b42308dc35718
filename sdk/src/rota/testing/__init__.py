"""Tests of tasks, and of programs that submit them, without servers.

`running_job` gives a task that is called as a function its `current_job()`. `MemoryClient` is a client whose jobs run
in this process, when the test says so, by a clock of its own. docs/testing.md says what it leaves out.
"""

from rota.testing.context import RunningJob, running_job
from rota.testing.memory import MemoryClient, MemoryHandle

__all__ = ["MemoryClient", "MemoryHandle", "RunningJob", "running_job"]

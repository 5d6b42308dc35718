"""Fixtures for pytest: `rota_client`, a `MemoryClient`, and `rota_job`, what `current_job()` answers in the test."""

from __future__ import annotations

from typing import Iterator

import pytest

from rota.testing import MemoryClient, RunningJob, running_job


@pytest.fixture
def rota_client() -> "Iterator[MemoryClient]":
    """A client in memory, which `Task.submit` uses within the test."""
    with MemoryClient() as client:
        yield client


@pytest.fixture
def rota_job() -> "Iterator[RunningJob]":
    """The job that tasks believe to run for when the test calls them as functions."""
    with running_job() as job:
        yield job

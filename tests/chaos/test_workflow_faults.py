"""A workflow of many jobs in ten layers runs right, whoever is killed in the middle of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from uuid import UUID

import pytest

from rota import Client, Workflow
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.domain.jobs.events import AttemptStarted, AttemptSucceeded
from rota_server.domain.workflows.workflow import member_id
from tests.chaos.system import RETRY, System, jobs_of, run
from tests.waiting import until_sync

pytestmark = pytest.mark.chaos

LAYERS, BEFORE = 10, 10
WIDTH = jobs_of("WORKFLOW_WIDTH", short=25, whole=100)
END_SECONDS = 120.0


def kill_nobody(_found: System) -> None:
    return


def kill_executor(found: System) -> None:
    found.kill("executor-1")


def kill_leader(found: System) -> None:
    found.kill(found.leader())


def layered() -> Workflow:
    """Every job waits for some of the layer before it."""
    chosen = random.Random(11)
    flow = Workflow("layers")
    above: list[str] = []
    for layer in range(LAYERS):
        nodes = []
        for number in range(WIDTH):
            after = chosen.sample(above, BEFORE) if above else None
            nodes.append(flow.add(f"{layer}-{number}", "chaos.layer", after=after, retry=RETRY))
        above = list(nodes)
    return flow


async def check_order(found: System, flow: Workflow, flow_id: str) -> None:
    """Nobody has started before everybody that he waits for had succeeded."""
    names = {member_id(UUID(flow_id), node): node for node in flow.jobs}
    succeeded: set[str] = set()
    started: set[str] = set()
    database = Database(found.database_url())
    log = PostgresEventLog(database)
    try:
        position = found.begin
        while events := await log.read(position, 2000):
            for recorded in events:
                node = names.get(recorded.stream_id)
                if node is not None and isinstance(recorded.event, AttemptStarted):
                    missing = set(flow.jobs[node].get("after", ())) - succeeded
                    assert not missing, f"{node} has started before {missing} had succeeded"
                    started.add(node)
                elif node is not None and isinstance(recorded.event, AttemptSucceeded):
                    succeeded.add(node)
                    layer = int(node.partition("-")[0])
                    assert recorded.event.result == layer + 1, "the results of its predecessors did not reach it"
            position = events[-1].position
    finally:
        await log.close()
        await database.close()
    assert started == succeeded == set(flow.jobs)


@pytest.mark.parametrize("fault", [kill_nobody, kill_executor, kill_leader], ids=lambda fault: fault.__name__)
def test_ten_layers_of_jobs(fault: Callable[[System], None], found: System) -> None:
    flow = layered()
    with Client(found.url, timeout=30, patience=60) as client:
        handle = client.submit_workflow(flow)
        until_sync(
            lambda: handle.refresh().counts.get("succeeded", 0) >= LAYERS * WIDTH * 3 // 10,
            timeout_seconds=END_SECONDS,
            what="a third",
        )
        fault(found)
        ended = handle.wait(END_SECONDS)
        assert ended.counts == {"succeeded": LAYERS * WIDTH}
        ids = [str(job["id"]) for job in ended.jobs.values()]
        types = run(found, ids)
        assert types["AttemptSucceeded"] == LAYERS * WIDTH
        assert (types["WorkflowSubmitted"], types["WorkflowEnded"]) == (1, 1)
        asyncio.run(check_order(found, flow, handle.id))

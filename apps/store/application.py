"""The store's HTTP application over its parts. Knows no concrete adapter; opens nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import FastAPI
from starlette.types import ASGIApp

from rota_server.apps.api_tokens import ApiToken
from rota_server.apps.store.events.live import HEARTBEAT_SECONDS, Live
from rota_server.apps.store.events.routes import EventRoutes
from rota_server.apps.store.http.guard import Guard
from rota_server.apps.store.http.hosts import Hosts
from rota_server.apps.store.http.large_bodies import LargeBodies
from rota_server.apps.store.http.pages import PageRoutes
from rota_server.apps.store.http.positions import WAIT_SECONDS, Positions
from rota_server.apps.store.http.routing import bare
from rota_server.apps.store.inbox.routes import InboxRoutes
from rota_server.apps.store.jobs.action_routes import JobActions
from rota_server.apps.store.jobs.handlers import Jobs
from rota_server.apps.store.jobs.openapi import describe
from rota_server.apps.store.jobs.routes import JobRoutes
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.queues.handlers import Queues
from rota_server.apps.store.queues.routes import QueueRoutes
from rota_server.apps.store.resources import Resources
from rota_server.apps.store.schedules.backfills import Backfills
from rota_server.apps.store.schedules.calendar_routes import CalendarRoutes
from rota_server.apps.store.schedules.calendars import Calendars
from rota_server.apps.store.schedules.handlers import Schedules
from rota_server.apps.store.schedules.previews import Previews
from rota_server.apps.store.schedules.routes import ScheduleRoutes
from rota_server.apps.store.schedules.tick_lists import TickLists
from rota_server.apps.store.subscriptions.routes import SubscriptionRoutes
from rota_server.apps.store.system.metrics import StoreMetrics
from rota_server.apps.store.system.routes import SystemRoutes
from rota_server.apps.store.tasks.names import TaskNames
from rota_server.apps.store.tasks.routes import TaskRoutes
from rota_server.apps.store.triggers.routes import TriggerRoutes
from rota_server.apps.store.why.inbox import WhyInbox
from rota_server.apps.store.why.jobs import Why
from rota_server.apps.store.why.routes import WhyRoutes
from rota_server.apps.store.why.ticks import WhyTicks
from rota_server.apps.store.why.workflows import WhyWorkflows
from rota_server.apps.store.workflows.handlers import Workflows
from rota_server.apps.store.workflows.routes import WorkflowRoutes
from rota_server.apps.version import VERSION
from rota_server.domain.workflows.workflow import KINDS


def create_app(
    parts: Parts,
    stop: asyncio.Event,
    *,
    tokens: Sequence[ApiToken] = (),
    loopback_only: bool = True,
    allowed_hosts: Sequence[str] = (),
    wait_seconds: float = WAIT_SECONDS,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> ASGIApp:
    """The application; live streams end when `stop` is set. `tokens` as in Guard, the names as in Hosts."""
    app = FastAPI(title="Rota", version=VERSION, docs_url=None, redoc_url=None)
    jobs = Jobs(parts)
    positions = Positions(parts.log, wait_seconds=wait_seconds)
    metrics = StoreMetrics(parts)
    # Before the routes with an id in their path, which would take `actions` and `bulk` for one.
    JobActions(parts, jobs).add_to(app)
    bodies = LargeBodies()
    JobRoutes(parts, jobs, positions, bodies).add_to(app)
    EventRoutes(parts, positions, Live(parts.log, stop, heartbeat_seconds=heartbeat_seconds)).add_to(app)
    resources = Resources(parts, jobs.modes)
    QueueRoutes(Queues(parts, resources), positions).add_to(app)
    workflows = {kind: Workflows(kind, parts, resources) for kind in KINDS}
    for found in workflows.values():
        WorkflowRoutes(found, positions, bodies).add_to(app)
    TriggerRoutes(parts, resources, positions).add_to(app)
    SubscriptionRoutes(parts, resources, positions).add_to(app)
    calendars = Calendars(parts.log, resources)
    schedules = Schedules(parts, resources, calendars)
    previews = Previews(schedules, calendars, parts.now)
    why = Why(parts, jobs)
    why_workflows, why_inbox = WhyWorkflows(workflows, parts.index, why), WhyInbox(parts.inbox, positions)
    WhyRoutes(why, WhyTicks(parts, schedules), why_workflows, why_inbox, positions).add_to(app)
    backfills, lists = Backfills(parts, schedules, calendars), TickLists(parts.log, schedules)
    ScheduleRoutes(schedules, backfills, previews, lists, positions).add_to(app)
    CalendarRoutes(calendars, resources, positions).add_to(app)
    InboxRoutes(parts, positions).add_to(app)
    TaskRoutes(TaskNames(parts.catalog), positions).add_to(app)
    SystemRoutes(parts, positions, metrics).add_to(app)
    PageRoutes().add_to(app)
    describe(app)
    hosts = Hosts(allowed_hosts, loopback_only=loopback_only)
    return Guard(bare(app), tokens=tokens, hosts=hosts, metrics=metrics.requests)

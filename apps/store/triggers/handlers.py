"""What the store does with triggers: create, change, pause, resume, archive. Never makes a job of an event itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from rota_server.apps.store.http.fields import digest_of
from rota_server.apps.store.parts import Parts
from rota_server.apps.store.resources import Changed, ResourceChange, Resources
from rota_server.apps.store.tasks.names import TaskNames
from rota_server.apps.store.triggers.parsing import (
    Known,
    check_pattern,
    parse_definition,
    parse_description,
    parse_template,
)
from rota_server.domain.builtin.tasks import BUILTIN_TASKS
from rota_server.domain.errors import NotPossible, Rejected
from rota_server.domain.events import Event
from rota_server.domain.ids import resource_id
from rota_server.domain.log import Meta
from rota_server.domain.ports.indexes import ResourceRow
from rota_server.domain.triggers.events import TriggerCreated
from rota_server.domain.triggers.trigger import (
    KIND,
    Action,
    Definition,
    act_on_trigger,
    change_trigger,
    evolve_trigger,
    trigger_head,
)


class Triggers:
    """The handlers, without HTTP."""

    def __init__(self, parts: Parts, resources: Resources) -> None:
        self._tasks = TaskNames(parts.catalog)
        self._resources = resources
        self._now = parts.now

    async def create(self, name: str, value: Mapping[str, Any], meta: Meta) -> Changed:
        """Make a trigger; the answer is the one that is there already with this definition. Raises Rejected."""
        new = parse_definition(value, self._now(), await self._known(value.get("job")))

        def decide(row: ResourceRow | None, _now: datetime) -> ResourceChange | None:
            if row is None:
                return _change(None, TriggerCreated(name=name, **asdict(new)))
            if row.doc["state"] == "archived" or not _same(row, new):
                raise NotPossible(
                    f"there is another trigger {name}, which is {row.doc['state']}", code="name-taken", field="name"
                )
            return None

        return await self._resources.change(resource_id(KIND, name), decide, meta)

    async def change(self, row: ResourceRow, value: Mapping[str, Any], meta: Meta) -> Changed:
        """Give the trigger another `match`, `job` or `description`. Raises Rejected, NotPossible, Unavailable."""
        known = await self._known(value["job"]) if "job" in value else None
        reason = value.get("reason")

        def decide(current: ResourceRow | None, now: datetime) -> ResourceChange | None:
            doc = (current or row).doc
            match = value.get("match", doc["match"])
            check_pattern(match)
            # Without `job`, what it makes stays as it was checked then, whatever tasks are announced now.
            spec, templates = doc["spec"], doc["templates"]
            if "job" in value:
                spec, templates = parse_template(value["job"], now, known)
            new = Definition(
                match=match,
                job=value.get("job", doc["job"]),
                spec=spec,
                templates=templates,
                description=parse_description(value) if "description" in value else doc["description"],
            )
            event = change_trigger(doc, new, reason)
            return None if event is None else _change(doc, event)

        return await self._resources.change(row.id, decide, meta)

    async def act(self, row: ResourceRow, action: Action, reason: str | None, meta: Meta) -> Changed:
        """Pause, resume or archive. Raises NotPossible, Unavailable."""

        def decide(current: ResourceRow | None, _now: datetime) -> ResourceChange | None:
            doc = (current or row).doc
            event = act_on_trigger(doc, action, reason)
            return None if event is None else _change(doc, event)

        return await self._resources.change(row.id, decide, meta)

    async def _known(self, job: Any) -> Known:
        task = job.get("task") if isinstance(job, dict) else None
        return await self._tasks.including({task} - BUILTIN_TASKS if isinstance(task, str) else set())


def trigger_view(row: ResourceRow) -> dict[str, Any]:
    """The trigger as it reads from outside."""
    doc = row.doc
    return {
        "id": row.id,
        "name": doc["name"],
        "state": doc["state"],
        "match": doc["match"],
        "job": doc["job"],
        "description": doc["description"],
        "failures": doc["failures"],
        "last_failure": doc["last_failure"],
        "version": row.version,
        "position": row.position,
        "created_at": row.created_at,
        "changed_at": row.changed_at,
    }


def trigger_id_of(reference: str) -> UUID:
    """The id of the trigger with this id or name, whether there is one or not."""
    try:
        return UUID(reference)
    except ValueError:
        return resource_id(KIND, reference)


def _change(doc: Mapping[str, Any] | None, event: Event) -> ResourceChange:
    return ResourceChange(events=[event], head=trigger_head(evolve_trigger(doc, event)))


def _same(row: ResourceRow, new: Definition) -> bool:
    return all(row.doc[name] == value for name, value in asdict(new).items())


def check_name(value: Any) -> str:
    """A resource's name. Raises Rejected."""
    allowed = isinstance(value, str) and 0 < len(value) <= 100
    if not allowed or not all(char.isascii() and (char.isalnum() or char in "._-") for char in value):
        message = "name: must have 1 to 100 letters, digits, dots, underscores and hyphens"
        raise Rejected(message, field="name", code="missing" if value is None else "invalid-argument")
    if _looks_like_an_id(value):
        raise Rejected("name: must not look like an id", field="name", code="invalid-argument")
    return str(value)


def name_of(value: Mapping[str, Any]) -> str:
    """The name that was asked for, or else one that follows from `match` and `job`. Raises Rejected.

    So a request without a name can be repeated: it does not make a second trigger, and events not two jobs.
    """
    if value.get("name") is not None:
        return check_name(value["name"])
    return f"trigger-{digest_of([value.get('match'), value.get('job')])[:16]}"


def _looks_like_an_id(value: str) -> bool:
    try:
        UUID(value)
    except ValueError:
        return False
    return True

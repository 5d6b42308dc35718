"""What an executor says of the tasks that it can run, beside entering them into the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rota_server.domain.alerts import declared_alert
from rota_server.domain.errors import Rejected

log = logging.getLogger("rota.executor")


def tell_of_alerts(tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Log which tasks are declared with an alert that nobody would get. They run all the same."""
    for name in sorted(tasks):
        alert = tasks[name]["options"].get("alert")
        try:
            if alert is not None:
                declared_alert(alert)
        except Rejected as error:
            log.error("nobody is told of failures of the task %s: %s", name, error)  # noqa: TRY400 - a sentence

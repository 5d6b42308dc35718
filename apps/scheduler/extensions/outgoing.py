"""Rota's own events as CloudEvents: what a webhook receives. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from rota_server.adapters.codec import to_json
from rota_server.domain.log import RawEvent
from rota_server.domain.ports.indexes import HeadRow

SOURCE = "/rota"
TYPE_PREFIX = "rota."
STRUCTURED = "application/cloudevents+json; charset=UTF-8"
JSON = "application/json"
SAFE = "!#$&'()*+,/:;<=>?@[\\]^_`{|}~"
"""What stands unencoded in a header of binary mode: printable ASCII but space, quote and per cent."""


def content_of(raw: RawEvent, meta: Mapping[str, Any], job: HeadRow | None, mode: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a message about this event; `job`: whose event it is, if it is a job's.

    `data` is the event as `GET /v1/events` shows it, and `job` beside it. `id` is the position in the log, `subject`
    and `partitionkey` the stream, `sequence` the position for comparing as text.
    """
    attributes = {
        "specversion": "1.0",
        "id": str(raw.position),
        "source": SOURCE,
        "type": TYPE_PREFIX + raw.type,
        "subject": str(raw.stream_id),
        "time": raw.recorded_at.isoformat(),
        "sequence": f"{raw.position:020d}",
        "partitionkey": str(raw.stream_id),
    }
    for name, key in (("correlationid", "correlation_id"), ("causationid", "causation_id"), ("traceparent",) * 2):
        if meta.get(key) is not None:
            attributes[name] = meta[key]
    data = to_json(raw)[:-1] + b',"job":' + orjson.dumps(_job(job)) + b"}"
    if mode == "binary":
        headers = {f"ce-{name}": quote(value, safe=SAFE) for name, value in attributes.items()}
        return data, {"content-type": JSON, **headers}
    whole = {**attributes, "datacontenttype": JSON, "data": orjson.Fragment(data)}
    return orjson.dumps(whole), {"content-type": STRUCTURED}


def _job(job: HeadRow | None) -> dict[str, Any] | None:
    if job is None:
        return None
    origin = None if job.origin_id is None else str(job.origin_id)
    fields = {"task": job.task, "queue": job.queue, "tags": job.tags, "key": job.key, "origin_id": origin}
    return {"id": str(job.id), **fields}

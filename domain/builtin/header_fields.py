"""Header fields of HTTP that a job may give: which ones can be sent as they are. Pure."""

from __future__ import annotations

from collections.abc import Mapping

FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that say where a message ends or what becomes of its connection (RFC 9110, 7.6.1; RFC 9112, 6).

With a second opinion about that, one request could be taken for two, and the next job's answer for this one's.
"""


def headers_problem(headers: Mapping[str, str]) -> str | None:
    """What keeps these from being sent as they are; None when nothing does."""
    seen: set[str] = set()
    for name, value in headers.items():
        small = name.lower()
        if small in FRAMING:
            return f"{name} belongs to the connection and is set by Rota"
        if small in seen:
            return f"{name} stands twice; names are the same in capital and small letters"
        seen.add(small)
        if value != value.strip() or any(not (c.isprintable() or c == "\t") and ord(c) < 0xA0 for c in value):
            return f"{name} has a value with spaces at an end, a line break or another control character"
    return None

"""Logs: a sentence, then fields. Never a secret, never one line per event on a hot path."""

from __future__ import annotations

import logging
import sys


def configure_logging(role: str, level: str = "INFO") -> None:
    """Send logs to stderr, one line each: time, level, role, logger, sentence."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {role} %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("kazoo", "httpx", "httpcore", "faststream", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    # Says again at each try to connect what our own line about the session says once.
    logging.getLogger("kazoo.client").setLevel(max(logging.ERROR, root.level))

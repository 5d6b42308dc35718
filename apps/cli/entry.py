"""The command's first step: what must be in place before the seconds in which everything is imported."""

from __future__ import annotations

import os
import signal
import sys

ROLES = {"store", "relay", "scheduler", "executor", "up"}


def main() -> None:
    """Run the command line. A role that is told to stop before it has begun ends at once, with status 0."""
    if sys.argv[1:2] and sys.argv[1] in ROLES:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: os._exit(0))
    try:
        from rota_server.apps.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

"""Options of commands that take JSON: as it stands, or from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rota_server.apps.cli.output import Failure


def object_of(text: str, option: str) -> dict[str, Any]:
    """The JSON object that the option gives, or `@FILE` names. Raises Failure."""
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise Failure(f"{option}: {error}", status=2) from None
    except RecursionError:
        raise Failure(f"{option}: nested too deeply", status=2) from None
    if not isinstance(value, dict):
        raise Failure(f"{option} takes a JSON object", status=2)
    return value


def given(**options: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in options.items() if value is not None}

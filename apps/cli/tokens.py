"""The commands about API tokens."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cyclopts import App

from rota_server.apps.cli.output import Failure, say

app = App(name="tokens", help="API tokens of the store.")


@app.command
def new(name: str | None = None, *, out: Path | None = None) -> int:
    """Make a token for ROTA_API_TOKENS and print it, or keep it in a file that only its owner can read.

    Args:
        name: Who uses it: the actor of what is asked with it.
        out: Write it there, unless there is one already, and print nothing.
    """
    from rota_server.apps.api_tokens import parse_tokens

    token = secrets.token_urlsafe(32) if name is None else f"{name}:{secrets.token_urlsafe(32)}"
    try:
        parse_tokens(token)
    except ValueError as error:
        raise Failure(str(error).partition(": ")[2], status=2) from None
    if out is None:
        say(token)
        return 0
    if out.exists():
        say(f"{out} is there already and stays as it is")
        return 0
    fresh = out.with_name(f"{out.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{token}\n")
    fresh.replace(out)
    say(f"a new token is in {out}")
    return 0

"""The tokens with which programs may call the store, as the setting ROTA_API_TOKENS or a file has them.

Read strictly: what might be meant otherwise is refused, and no message shows a secret.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

SECRET_LIMIT_CHARS = 16
"""The fewest characters of a secret: what is shorter can be guessed."""

UNNAMED = "token"
"""The name of whoever has a token without a name."""

NAME = re.compile(r"[A-Za-z0-9._@+-]{1,100}")
SECRET = re.compile(r"[^\s,:\x00-\x1f\x7f]{1,1000}")
HOW = f"each is name:secret or just the secret, of at least {SECRET_LIMIT_CHARS} characters; commas or lines part them"


class ApiToken(NamedTuple):
    """A secret, and who is the actor of whatever is asked with it."""

    name: str
    secret: str

    def __repr__(self) -> str:
        return f"ApiToken({self.name!r})"


def parse_tokens(value: Any) -> Any:
    """The tokens of a text. Raises ValueError that shows no secret. What is no text is left as it is."""
    if not isinstance(value, str):
        return value
    if value == "":
        return ()
    entries = [
        entry.strip() for line in value.removeprefix("\ufeff").splitlines() if line.strip() for entry in line.split(",")
    ]
    if not entries:
        raise ValueError(f"holds no token; {HOW}")
    tokens: list[ApiToken] = []
    for number, entry in enumerate(entries, 1):
        token = _token(entry, number)
        if any(token.secret == other.secret for other in tokens):
            raise ValueError(f"entry {number} has the same secret as another")
        if ":" in entry and any(token.name == other.name for other in tokens):
            raise ValueError(f"entry {number} has the same name as another, {token.name}")
        tokens.append(token)
    return tuple(tokens)


def _token(entry: str, number: int) -> ApiToken:
    name, separator, secret = entry.partition(":")
    if not separator:
        name, secret = UNNAMED, entry
    if not entry:
        raise ValueError(f"entry {number} is empty; {HOW}")
    if not NAME.fullmatch(name):
        raise ValueError(f"entry {number}: its name must have 1 to 100 letters, digits and any of . _ @ + -")
    if len(secret) < SECRET_LIMIT_CHARS:
        raise ValueError(f"entry {number} ({name}): the secret has fewer than {SECRET_LIMIT_CHARS} characters")
    if not SECRET.fullmatch(secret):
        raise ValueError(f"entry {number} ({name}): the secret holds a colon or a space, or more than 1,000 characters")
    return ApiToken(name, secret)

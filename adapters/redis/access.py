"""What each kind of process calls in Redis, as rules of its access control list (`ACL SETUSER`, `user` in a file).

A script's commands are checked for the user who calls it, and its keys must all be open to it for reading and writing:
what a kind may change is decided by the commands. The store has no business in Redis.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

_ANYBODY = "resetchannels -@all +ping +select +client|setname +client|setinfo +eval +evalsha"

RULES: Mapping[str, str] = {
    "relay": (
        f"{_ANYBODY} ~rota:feed ~rota:control ~rota:refill ~rota:aside ~rota:work:* +type +get +set +del +rename "
        "+xadd +xdel +xtrim +xlen +xrange +xclaim +xpending +xinfo|stream +xinfo|groups +xgroup|create"
    ),
    "scheduler": f"{_ANYBODY} ~rota:feed ~rota:work:* +type +xread +xrange +xlen +xinfo|stream",
    "executor": (
        f"{_ANYBODY} ~rota:work:* ~rota:parked:* ~rota:parked-bell:* ~rota:control +type +xreadgroup +xread +xack "
        "+xdel +xclaim +xpending +xrevrange +xinfo|stream +xinfo|groups +xinfo|consumers +xgroup|create "
        "+xgroup|delconsumer +smismember +sismember +scard +sadd +srem +del "
        "(~rota:parked-bell:* +xadd)"
    ),
}
"""The rules of each kind of process that talks to Redis."""


def user_line(kind: str, user: str, password: str) -> str:
    """The `user` line of Redis's configuration for a kind of process; the password stands there as its digest."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user {user} on #{digest} resetkeys {RULES[kind]}"

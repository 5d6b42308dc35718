"""Sends signed messages to webhooks. One attempt a call; whether there is another one is not decided here.

The signature is that of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, in `webhook-signature`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

import httpcore

from rota_server.adapters.http.addresses import AddressRefused, checked_pool

SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret begins, not one
SECRET_BYTES = 32
USER_AGENT = "rota/0.1"
CONNECT_SECONDS = 5.0
ANSWER_LIMIT_BYTES = 2048
"""How much of an answer is read: enough for an error's text."""

SAID_LIMIT_CHARS = 300
TRAIL = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12});([0-9]{1,4});[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent. `id` is the same for every attempt; `secrets` sign it, all of them."""

    url: str
    id: str
    body: bytes
    headers: Mapping[str, str]
    secrets: tuple[str, ...]
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How an attempt came out: `error` None means that the receiver took it. `wait_seconds`: what it asked for.

    `final`: another attempt would come out the same.
    """

    error: str | None = None
    wait_seconds: float = 0.0
    final: bool = False


class Webhooks:
    """Connections to all receivers. Who sends bounds their number: what waited here would wait for other receivers."""

    def __init__(self, *, refuse_private: bool) -> None:
        self._pool = checked_pool(refuse_private=refuse_private, max_connections=None)

    async def send(self, message: Message, now_seconds: float) -> Sent:
        """Make one attempt, at this Unix time. Never raises for what the receiver or the network does."""
        timestamp = str(int(now_seconds))
        try:
            signature = sign(message.secrets, message.id, timestamp, message.body)
        except ValueError as error:
            return Sent(error=f"not sent: {error}")
        headers = {
            "user-agent": USER_AGENT,
            **message.headers,
            "webhook-id": message.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature,
        }
        try:
            async with asyncio.timeout(message.timeout_seconds):
                return await self._post(message, headers)
        except TimeoutError:
            return Sent(error=f"no answer within {message.timeout_seconds:g} s")
        except AddressRefused as error:
            return Sent(error=str(error))
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            return Sent(error=f"{type(error).__name__}: {error}"[:SAID_LIMIT_CHARS])
        except (httpcore.UnsupportedProtocol, ValueError) as error:
            return Sent(error=f"the URL cannot be asked: {error}"[:SAID_LIMIT_CHARS])

    async def _post(self, message: Message, headers: Mapping[str, str]) -> Sent:
        limits = dict.fromkeys(("read", "write", "pool"), message.timeout_seconds)
        extensions = {"timeout": {**limits, "connect": min(CONNECT_SECONDS, message.timeout_seconds)}}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = self._pool.stream("POST", message.url, headers=pairs, content=message.body, extensions=extensions)
        async with request as answer:
            said = b""
            async for part in answer.aiter_stream():
                said += part
                if len(said) > ANSWER_LIMIT_BYTES:
                    break
        if 200 <= answer.status < 300:
            return Sent()
        text = said[:SAID_LIMIT_CHARS].decode(errors="replace").replace("\x00", "")
        return Sent(error=f"{answer.status}: {text}".rstrip(": "), wait_seconds=_asked_to_wait(answer.headers))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def new_secret() -> str:
    """A secret as receivers know them: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def usable_secret(text: str) -> bool:
    """Whether it is `whsec_` and 24 to 64 bytes in base64."""
    try:
        return text.startswith(SECRET_PREFIX) and 24 <= len(_key(text)) <= 64
    except (binascii.Error, ValueError):
        return False


def sign(keys: Iterable[str], identity: str, timestamp: str, body: bytes) -> str:
    """The header `webhook-signature`: one signature a secret.

    Raises ValueError for a secret that is none: what it signs, anybody could sign.
    """
    if not (keys := list(keys)) or not all(usable_secret(key) for key in keys):
        raise ValueError("a secret is empty, too short, too long or not whsec_ and base64")
    content = f"{identity}.{timestamp}.".encode() + body
    signatures = (hmac.new(_key(key), content, hashlib.sha256).digest() for key in keys)
    return " ".join("v1," + base64.b64encode(signature).decode() for signature in signatures)


def sign_trail(secret: str, subscription: UUID, depth: int) -> str:
    """The header `rota-trail`: which subscription delivers, and how long the story is. Only its own store reads it."""
    told = f"{subscription};{depth}"
    return f"{told};{hmac.new(_key(secret), f'trail:{told}'.encode(), hashlib.sha256).hexdigest()}"


def parse_trail(text: str) -> tuple[UUID, int] | None:
    """The subscription and depth that a `rota-trail` speaks of, not verified yet; None when it is none."""
    found = TRAIL.fullmatch(text)
    return None if found is None else (UUID(found[1]), int(found[2]))


def is_trail_of(keys: Iterable[str], text: str, subscription: UUID, depth: int) -> bool:
    """Whether one of the subscription's secrets has signed it."""
    return any(hmac.compare_digest(sign_trail(key, subscription, depth), text) for key in keys)


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)


def _asked_to_wait(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """The seconds in `Retry-After`, at most an hour; its other form, a date, is not honoured."""
    for name, value in headers:
        if name.lower() == b"retry-after" and value.strip().isdigit():
            return min(float(value), 3600.0)
    return 0.0

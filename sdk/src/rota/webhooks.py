"""For receivers of Rota's webhooks: whether a request is what it says it is. Signed as Standard Webhooks has it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Dict, Iterable, Mapping, Optional, Union

from rota.errors import RotaError

TOLERANCE_SECONDS = 300.0
"""How far a message's time may be from this machine's: what is older may be a repetition by somebody else."""

PREFIX = "whsec_"
KEY_LEAST_BYTES = 24
"""What Standard Webhooks asks for, and what Rota has always asked of a subscription's secret."""


class WebhookInvalid(RotaError):
    """The request is not signed with the secret, or not now, or not whole: do not trust it; answer 400."""


class WebhookSecretUnusable(WebhookInvalid, ValueError):
    """The receiver's own secret is empty, too short or not base64: whatever it verified, anybody could have signed."""


def verify_webhook(
    headers: "Mapping[str, str]",
    body: Union[bytes, str],
    secret: "Union[str, Iterable[str]]",
    *,
    tolerance: Optional[float] = TOLERANCE_SECONDS,
) -> "Dict[str, Any]":
    """The event that the request carries, once its signature is found to be right.

    `headers` in any case; `body` exactly as it came; `secret` as the subscription's creation showed it, or several of
    them. `tolerance` in seconds; None: of any age. A message may come twice: `headers["webhook-id"]` is the same then.

    A structured CloudEvent is answered whole; of one in binary mode, whose attributes stand in the headers, the data.

    Raises WebhookInvalid, and of its kind WebhookSecretUnusable for a secret that is empty (a setting that is not set),
    shorter than 24 bytes or not base64, before anything is compared.
    """
    secrets = [secret] if isinstance(secret, str) else list(secret)
    if not secrets:
        raise WebhookSecretUnusable("there is no secret to verify with")
    keys = [_key(one) for one in secrets]
    found = {name.lower(): value for name, value in headers.items()}
    identity, timestamp, signatures = (
        _needed(found, name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    )
    content = body.encode() if isinstance(body, str) else bytes(body)
    _check_time(timestamp, tolerance)
    signed = f"{identity}.{timestamp}.".encode() + content
    wanted = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in keys]
    given = [part[3:].encode() for part in signatures.split() if part.startswith("v1,")]
    # Every pair is compared, each in constant time, whatever the ones before said.
    matches = [hmac.compare_digest(mine, theirs) for mine in wanted for theirs in given]
    if not any(matches):
        raise WebhookInvalid("the signature is not one of this secret")
    try:
        event = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WebhookInvalid(f"the body is not JSON: {error}") from error
    if not isinstance(event, dict):
        raise WebhookInvalid("the body is no JSON object")
    return event


def _needed(headers: "Mapping[str, str]", name: str) -> str:
    value = headers.get(name)
    if not value:
        raise WebhookInvalid(f"the header {name} is missing")
    return value


def _check_time(timestamp: str, tolerance: Optional[float]) -> None:
    try:
        at = int(timestamp)
    except ValueError:
        raise WebhookInvalid("the header webhook-timestamp is no number") from None
    if tolerance is not None and abs(time.time() - at) > tolerance:
        raise WebhookInvalid("the message is too old, or from the future")


def _key(secret: str) -> bytes:
    """The key in a secret. Whitespace around it is what files end with."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except ValueError as error:
        raise WebhookSecretUnusable("the secret is not whsec_ and base64") from error
    if len(key) < KEY_LEAST_BYTES:
        raise WebhookSecretUnusable(f"the secret has {len(key)} bytes; fewer than {KEY_LEAST_BYTES} sign nothing")
    return key

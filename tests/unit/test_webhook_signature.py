"""What Rota signs, receivers verify; and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import pytest

from rota import WebhookInvalid, WebhookSecretUnusable, verify_webhook
from rota_server.adapters.http.webhooks import new_secret, sign, usable_secret

BODY = json.dumps({"type": "rota.JobSubmitted", "id": "5"}).encode()


def signed(secret: str, *, at: float | None = None, body: bytes = BODY) -> dict[str, str]:
    timestamp = str(int(time.time() if at is None else at))
    signature = sign([secret], "m-1", timestamp, body)
    return {"Webhook-Id": "m-1", "Webhook-Timestamp": timestamp, "Webhook-Signature": signature}


def test_a_signed_message_is_answered_with_its_event():
    secret = new_secret()
    assert usable_secret(secret)
    assert verify_webhook(signed(secret), BODY, secret)["id"] == "5"
    assert verify_webhook(signed(secret), BODY.decode(), [new_secret(), secret])["id"] == "5"


def test_the_signature_is_that_of_the_standards_own_example():
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    signature = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_several_secrets_may_sign_and_one_is_enough():
    old, new = new_secret(), new_secret()
    timestamp = str(int(time.time()))
    headers = {
        "webhook-id": "m",
        "webhook-timestamp": timestamp,
        "webhook-signature": sign([new, old], "m", timestamp, BODY),
    }
    assert verify_webhook(headers, BODY, old)
    assert verify_webhook(headers, BODY, new)


def test_what_is_not_signed_so_is_refused():
    secret = new_secret()
    good = signed(secret)
    wrong = [
        (good, BODY + b" ", secret),
        (good, BODY, new_secret()),
        ({**good, "Webhook-Id": "m-2"}, BODY, secret),
        ({**good, "Webhook-Timestamp": str(int(time.time()) + 1)}, BODY, secret),
        ({**good, "Webhook-Timestamp": "now"}, BODY, secret),
        ({**good, "Webhook-Signature": good["Webhook-Signature"].replace("v1,", "v1a,")}, BODY, secret),
        ({**good, "Webhook-Signature": "v1,"}, BODY, secret),
        ({name: value for name, value in good.items() if name != "Webhook-Id"}, BODY, secret),
        (signed(secret, at=time.time() - 600), BODY, secret),
        (signed(secret, at=time.time() + 600), BODY, secret),
        (signed(secret, body=b"[]"), b"[]", secret),
    ]
    for headers, body, key in wrong:
        with pytest.raises(WebhookInvalid):
            verify_webhook(headers, body, key)
    assert verify_webhook(signed(secret, at=time.time() - 600), BODY, secret, tolerance=None)
    with pytest.raises(ValueError):
        verify_webhook(good, BODY, "whsec_%%%")


def test_secrets_that_are_too_short_or_no_base64_are_not_taken():
    for secret in ("", "whsec_", "whsec_AAAA", "secret", "whsec_" + "A" * 200, "whsec_%%%%"):
        assert not usable_secret(secret)


def signed_with(key: bytes) -> dict[str, str]:
    """As an attacker signs who knows, or guesses, that this is the receiver's key."""
    timestamp = str(int(time.time()))
    digest = hmac.new(key, f"m.{timestamp}.".encode() + BODY, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": "m", "webhook-timestamp": timestamp, "webhook-signature": signature}


@pytest.mark.parametrize(
    "secret", ["", "whsec_", " ", "\n", "whsec_\n", [], [""], (one for one in ("whsec_",)), "whsec_AA=="]
)
def test_what_is_signed_with_no_key_is_refused_whatever_the_receivers_secret_is(secret):
    for key in (b"", b"\x00"):
        with pytest.raises(WebhookSecretUnusable):
            verify_webhook(signed_with(key), BODY, secret)


def test_one_secret_that_is_none_is_refused_also_beside_a_good_one():
    good = new_secret()
    with pytest.raises(WebhookInvalid):
        verify_webhook(signed(good), BODY, [good, ""])


@pytest.mark.parametrize(("length", "taken"), [(1, False), (23, False), (24, True), (64, True)])
def test_a_secret_needs_24_bytes(length: int, *, taken: bool):
    key = bytes(range(length))
    secret = "whsec_" + base64.b64encode(key).decode()
    if taken:
        assert verify_webhook(signed_with(key), BODY, secret)
        assert verify_webhook(signed_with(key), BODY, secret.removeprefix("whsec_") + "\n")
    else:
        with pytest.raises(ValueError, match="bytes"):
            verify_webhook(signed_with(key), BODY, secret)


@pytest.mark.parametrize("secrets", [[], [""], ["whsec_"], ["whsec_AAAA"], [new_secret(), ""]])
def test_nothing_is_signed_with_a_secret_that_is_none(secrets: list[str]):
    with pytest.raises(ValueError, match="secret"):
        sign(secrets, "m", "1", BODY)

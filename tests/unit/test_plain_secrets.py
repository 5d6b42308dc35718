"""What looks like a secret in plain arguments."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rota_server.domain.jobs.plain_secrets import FOUND_LIMIT, plain_secrets

SUSPICIOUS: list[dict[str, Any]] = [
    {"headers": {"Authorization": "Bearer abcdefgh"}},
    {"headers": {"authorization": "anything"}},
    {"headers": {"X-Api-Key": "12345"}},
    {"env": {"DB_PASSWORD": "hunter22"}},
    {"env": {"AWS_SECRET_ACCESS_KEY": "hunter22"}},
    {"json": {"clientSecret": "hunter22"}},
    {"json": {"tokens": 1, "token": ["hunter22"]}},
    {"url": "https://user:pass@example.org/"},
    {"command": ["curl", "postgresql://app:pw@db/x"]},
    {"text": "use AKIAIOSFODNN7EXAMPLE for it"},
    {"text": "ghp_" + "a" * 36},
    {"text": "-----BEGIN RSA PRIVATE KEY-----\nMII"},
    {"text": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x"},
    {"text": "Bearer abcdefghij"},
]
HARMLESS: list[dict[str, Any]] = [
    {"headers": {"Authorization": {"$secret": "billing-token", "prefix": "Bearer "}}},
    {"headers": {"Authorization": "Bearer ${data.token}"}},
    {"url": "https://user@example.org/?next=a:b@c"},
    {"url": "https://example.org/a:b@c"},
    {"password": ""},
    {"token_count": "12345", "secretary": "Ann Smith", "tokenize": "yes please", "next_page": "abcdef"},
    {"text": "Bearer of good news"},
]


@pytest.mark.parametrize("args", SUSPICIOUS)
def test_what_looks_like_a_secret_is_found_with_its_place(args: dict[str, Any]) -> None:
    (place,) = plain_secrets({"task": "t", "args": args})
    assert place.startswith(f"args.{next(iter(args))}")
    assert plain_secrets({"jobs": {"a": {"args": args}}})[0].startswith("jobs.a.args.")


@pytest.mark.parametrize("args", HARMLESS)
def test_what_does_not_is_not(args: dict[str, Any]) -> None:
    assert plain_secrets({"task": "t", "args": args, "secret": "whsec_of-a-subscription"}) == []


def test_no_request_holds_the_loop() -> None:
    texts = ["eyJ" + "a" * 8000, "AKIA" * 2000, "Bearer " * 1000, "://" * 3000, "-----BEGIN " * 800, "a:b@" * 2000]
    for text in texts:
        began = time.process_time()
        assert len(plain_secrets({"args": {f"{n}Password" * 100: text for n in range(5000)}})) <= FOUND_LIMIT
        assert len(plain_secrets([{"args": [[[text]] * 50] * 200}] * 100)) <= FOUND_LIMIT
        assert time.process_time() - began < 0.3

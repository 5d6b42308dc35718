"""Who may call: tokens, loopback, and pages of other sites."""

from __future__ import annotations

import httpx
import pytest

from apps.api_tokens import parse_tokens
from apps.store import failures
from tests.integration.store.conftest import Stores

JOB = {"task": "noop"}
SECRET, PLAIN, FOREIGN = "s3cret-s3cret-s3cret", "plain-plain-plain-plain", "schlüssel-für-die-tür"
TOKENS = parse_tokens(f"alice:{SECRET},{PLAIN}\nbob:{FOREIGN}")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer what fails again and again at once."""
    monkeypatch.setattr(failures, "FIRST_DELAY_SECONDS", 0)


async def test_without_the_right_token_nothing_is_answered_and_nothing_written(stores: Stores):
    client = await stores.client(tokens=TOKENS, loopback_only=False)
    for given in (
        None,
        SECRET,
        "Bearer wrong",
        f"Bearer alice:{SECRET}",
        f"Basic {SECRET}",
        "Bearer ",
        "Bearer",
        f"Bearer {SECRET}2",
        f"Bearer {SECRET[:-1]}",
    ):
        headers = {} if given is None else {"Authorization": given}
        for call in (client.post("/v1/jobs", json=JOB, headers=headers), client.get("/v1/jobs", headers=headers)):
            answer = await call
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.get("/metrics")).status_code == 401
    assert await stores.parts.log.last_position() == 0


async def test_the_name_of_a_token_is_the_actor(stores: Stores):
    client = await stores.client(tokens=TOKENS, loopback_only=False)
    for token, actor in ((SECRET, "http:alice"), (PLAIN, "http:token")):
        headers = {"Authorization": f"bearer {token}", "Rota-Actor": "mallory"}
        answer = await client.post("/v1/jobs", json=JOB, headers=headers)
        assert answer.status_code == 201
        history = await client.get(f"/v1/jobs/{answer.json()['id']}/events", headers=headers)
        assert history.json()["items"][0]["meta"]["actor"] == actor


async def test_a_secret_is_compared_as_utf8(stores: Stores):
    client = await stores.client(tokens=TOKENS, loopback_only=False)
    for given, status in ((FOREIGN.encode(), 200), (FOREIGN.encode("latin-1"), 401), (b"\xff" * 21, 401)):
        answer = await client.get("/v1/jobs", headers=[(b"authorization", b"Bearer " + given)])
        assert answer.status_code == status


async def test_failures_are_logged_with_the_address_and_never_the_token(
    stores: Stores, caplog: pytest.LogCaptureFixture
):
    client = await stores.client(tokens=TOKENS, loopback_only=False)
    for _ in range(8):
        await client.get("/v1/jobs", headers={"Authorization": "Bearer guessed-guessed-guessed"})
    (line,) = [record.getMessage() for record in caplog.records if record.name == "rota.store.access"]
    assert line == "127.0.0.1 asked without a valid token: GET '/v1/jobs'"


async def test_health_and_documents_need_no_token(stores: Stores):
    client = await stores.client(tokens=TOKENS, loopback_only=False)
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert (await client.get(path)).status_code == 200


async def test_a_loopback_store_answers_to_loopback_names_only(stores: Stores):
    client = await stores.client()
    for host in ("localhost", "localhost:3000", "127.0.0.1:3000", "[::1]:3000", "LOCALHOST"):
        assert (await client.get("/healthz", headers={"Host": host})).status_code == 200
    for host in ("evil.example", "evil.example:3000", "127.0.0.1.evil.example", "localhost.evil.example", "[bad", ""):
        answer = await client.get("/v1/jobs", headers={"Host": host})
        assert (answer.status_code, answer.json()["field"]) == (403, "Host")


async def test_pages_of_other_sites_can_change_nothing(stores: Stores):
    client = await stores.client()
    for origin in ("https://evil.example", "http://127.0.0.1:8080", "http://localhost:3000", "null"):
        answer = await client.post("/v1/jobs", json=JOB, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["field"]) == (403, "Origin")
    assert await stores.parts.log.last_position() == 0
    own = await client.post("/v1/jobs", json=JOB, headers={"Origin": "http://127.0.0.1:3000"})
    assert own.status_code == 201


async def test_beyond_loopback_names_are_not_checked(stores: Stores):
    client = await stores.client(loopback_only=False)
    headers = {"Host": "rota.example", "Origin": "https://dashboard.example"}
    assert (await client.post("/v1/jobs", json=JOB, headers=headers)).status_code == 201


async def test_the_actor_is_anonymous_unless_it_gives_a_name(client: httpx.AsyncClient):
    await client.post("/v1/jobs", json=JOB)
    (event,) = (await client.get("/v1/events")).json()["items"]
    assert event["meta"]["actor"] == "http:anonymous"

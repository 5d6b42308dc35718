"""Who may call: tokens, loopback, and pages of other sites."""

from __future__ import annotations

import re
import socket
from urllib.parse import urljoin

import httpx
import pytest

from rota_server.apps.api_tokens import parse_tokens
from rota_server.apps.store.http import failures
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


async def test_beyond_loopback_a_store_without_tokens_answers_to_its_own_names_only(stores: Stores):
    client = await stores.client(loopback_only=False, allowed_hosts=("Rota.example", "[2001:db8::1]"))
    names = (
        "rota.example",
        "rota.example:3000",
        "192.0.2.7:3000",
        "[2001:db8::2]:80",
        socket.gethostname(),
        "localhost",
    )
    for host in names:
        own = {"Host": host, "Origin": f"https://{host}"}
        assert (await client.post("/v1/jobs", json=JOB, headers=own)).status_code == 201, host
    for host in ("evil.example", "rota.example.evil.example", "xrota.example", "192.0.2.7.evil.example", "[bad"):
        answer = await client.get("/v1/jobs", headers={"Host": host})
        assert (answer.status_code, answer.json()["field"]) == (403, "Host")
        assert "ROTA_ALLOWED_HOSTS" in answer.json()["detail"]


async def test_beyond_loopback_pages_of_other_sites_can_change_nothing_either(stores: Stores):
    client = await stores.client(loopback_only=False, allowed_hosts=("*",))
    for origin in ("https://evil.example", "null", "http://rota.example:8080"):
        headers = {"Host": "rota.example", "Origin": origin}
        answer = await client.post("/v1/jobs", json=JOB, headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (403, "Origin")
    assert await stores.parts.log.last_position() == 0


async def test_with_tokens_any_name_is_answered(stores: Stores):
    client = await stores.client(tokens=TOKENS, loopback_only=False)
    headers = {"Host": "rota.example", "Origin": "https://dashboard.example", "Authorization": f"Bearer {SECRET}"}
    assert (await client.post("/v1/jobs", json=JOB, headers=headers)).status_code == 201


async def test_a_body_that_does_not_say_what_it_is_is_refused(stores: Stores):
    """A page of another site can have a browser send such a body without asking anybody."""
    client = await stores.client()
    job = (await client.post("/v1/jobs", json=JOB)).json()["id"]
    for path in (
        "/v1/jobs",
        "/v1/jobs/bulk",
        "/v1/jobs/actions",
        f"/v1/jobs/{job}/cancel",
        "/v1/workflows",
        "/v1/events",
    ):
        answer = await client.post(path, content=b'{"task":"noop"}')
        assert (answer.status_code, answer.json()["field"]) == (415, "Content-Type"), path
    assert (await client.post(f"/v1/jobs/{job}/cancel")).status_code == 200


async def test_every_answer_says_that_nothing_in_it_may_run(stores: Stores):
    client = await stores.client()
    for path, status in (("/v1/jobs", 200), ("/v1/nothing", 404), ("/v1/jobs?limit=x", 422), ("/healthz", 200)):
        answer = await client.get(path)
        assert answer.status_code == status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_the_page_asks_nothing_of_others(stores: Stores):
    client = await stores.client(tokens=TOKENS, loopback_only=False)
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "http" not in policy
    named = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert "<script>" not in page.text
    assert named == ["data:,", "docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js"]
    for name in named[1:]:
        file = await client.get(urljoin("/docs", name))
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert (file.status_code, file.headers["content-type"].partition(";")[0]) == (200, kind)
        assert len(file.content) > 50
    start = (await client.get("/docs/start.js")).text
    assert 'url: "openapi.json"' in start
    assert "validatorUrl: null" in start


async def test_the_actor_is_anonymous_unless_it_gives_a_name(client: httpx.AsyncClient):
    await client.post("/v1/jobs", json=JOB)
    (event,) = (await client.get("/v1/events")).json()["items"]
    assert event["meta"]["actor"] == "http:anonymous"

"""`http.request`: nothing of one job reaches another job, and nothing for one server another server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from rota_server.adapters.http.webhooks import Message, Webhooks, new_secret
from rota_server.apps.executor.builtin.http_steps import Step, first_step
from rota_server.apps.executor.builtin.runner import BuiltinTasks
from rota_server.domain.builtin.tasks import HttpRequest, check_arguments
from rota_server.domain.errors import Rejected
from tests.integration.builtin_tasks import Kept, attempt_of, failure, nowhere, run, success
from tests.integration.http_server import Serve, say, servers

KEYS = {"Authorization": "Bearer t", "Cookie": "a=b", "X-Api-Key": "k", "X-Own": "o", "Accept-Language": "de"}


@pytest.fixture
def serve() -> Iterator[Serve]:
    with servers() as start:
        yield start


async def test_cookies_of_one_job_do_not_travel_in_anothers_request(serve: Serve) -> None:
    server = serve(lambda handler: say(handler, 200, set_cookie="session=of-the-first; Path=/"))
    tasks = BuiltinTasks(nowhere)
    for path in ("a", "b"):
        success(await tasks.run(attempt_of("http.request", {"url": f"{server.url}/{path}"}), Kept()))
    await tasks.close()
    assert [headers.get("cookie") for _, _, headers, _ in server.asked] == [None, None]


async def test_credentials_of_one_job_do_not_travel_in_anothers_request(serve: Serve) -> None:
    server = serve(lambda handler: say(handler, 200))
    tasks = BuiltinTasks(nowhere)
    with_password = server.url.replace("://", "://user:s%40cret@")
    for args in (
        {"url": with_password},
        {"url": server.url},
        {"url": server.url, "headers": KEYS},
        {"url": server.url},
    ):
        result = success(await tasks.run(attempt_of("http.request", args), Kept()))
        assert "cret" not in result["url"]
    await tasks.close()
    basic = "Basic " + base64.b64encode(b"user:s@cret").decode()
    assert [headers.get("authorization") for _, _, headers, _ in server.asked] == [basic, None, "Bearer t", None]


async def test_a_connection_that_was_authenticated_serves_no_other_job(serve: Serve) -> None:
    server = serve(lambda handler: say(handler, 200, str(handler.client_address[1]).encode()))
    tasks = BuiltinTasks(nowhere)
    ports = []
    for headers in ({"Authorization": "Negotiate abc"}, {}, {}):
        result = success(await tasks.run(attempt_of("http.request", {"url": server.url, "headers": headers}), Kept()))
        ports.append(result["body"])
    await tasks.close()
    assert ports[0] != ports[1] == ports[2]  # connections as such are kept


async def test_a_login_within_one_job_keeps_its_cookie_for_that_server_alone(serve: Serve) -> None:
    other = serve(lambda handler: say(handler, 200))

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/login":
            say(handler, 302, location="/inside", set_cookie="session=1")
        else:
            say(handler, 302, location=other.url)

    server = serve(answer)
    success(await run("http.request", {"url": f"{server.url}/login"}))
    assert server.asked[1][2]["cookie"] == "session=1"
    assert "cookie" not in other.asked[0][2]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_key_reaches_another_origin(serve: Serve, status: int) -> None:
    other = serve(lambda handler: say(handler, 200))
    server = serve(lambda handler: say(handler, status, location=other.url))
    success(await run("http.request", {"url": server.url, "headers": KEYS}))
    ((_, _, headers, _),) = other.asked
    assert headers.keys() == {"host", "accept", "accept-encoding", "accept-language", "user-agent"}
    assert (server.asked[0][2]["x-api-key"], headers["accept-language"]) == ("k", "de")


@pytest.mark.parametrize(("status", "method"), [(307, "POST"), (308, "POST"), (307, "PUT"), (301, "PUT"), (302, "PUT")])
async def test_no_body_reaches_another_origin(serve: Serve, status: int, method: str) -> None:
    other = serve(lambda handler: say(handler, 200))
    server = serve(lambda handler: say(handler, status, location=f"{other.url}/?token=t"))
    failed = failure(await run("http.request", {"url": server.url, "method": method, "json": {"card": 1}}))
    assert (failed.type, failed.retryable, other.asked) == ("RedirectRefused", False, [])
    assert "token" not in failed.message


@pytest.mark.parametrize("status", [307, 308])
async def test_the_same_origin_gets_the_request_again(serve: Serve, status: int) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/a":
            say(handler, status, location="/b")
        else:
            say(handler, 200)

    server = serve(answer)
    url = server.url.replace("://", "://u:p@") + "/a"
    success(await run("http.request", {"url": url, "method": "POST", "json": {"a": 1}, "headers": {"X-Own": "o"}}))
    (first, second) = server.asked
    assert (second[0], second[1], second[3], second[2]) == ("POST", "/b", b'{"a":1}', first[2])


@pytest.mark.parametrize(
    ("start", "target", "kept"),
    [
        ("http://a.example/", "https://a.example/", True),
        ("http://a.example/", "http://A.example:80/x", True),
        ("https://a.example/", "http://a.example/", False),
        ("http://a.example/", "https://a.example:8443/", False),
        ("http://a.example/", "http://a.example:8080/", False),
        ("http://a.example/", "http://b.a.example/", False),
        ("http://a.example/", "//b.example/", False),
        ("http://a.example/", "http://u:p@a.example/", True),
    ],
)
def test_what_is_another_origin(start: str, target: str, *, kept: bool) -> None:
    arguments = HttpRequest.model_validate({"url": start, "headers": {"X-Own": "o"}})
    step: Step = first_step(arguments, attempt_of("http.request", {})).redirected(302, target)
    assert ("x-own" in step.headers) is kept
    assert "authorization" not in step.headers  # a redirect brings no credentials either


@pytest.mark.parametrize("target", ["http://[::1/", "http://a:65536/", "ftp://a/", "http://a..b/"])
async def test_a_redirect_that_leads_nowhere_fails_for_good(serve: Serve, target: str) -> None:
    server = serve(lambda handler: say(handler, 302, location=target))
    failed = failure(await run("http.request", {"url": server.url}))
    assert (failed.type, failed.retryable, len(server.asked)) == ("RedirectRefused", False, 1)


@pytest.mark.parametrize(
    "headers",
    [
        {"Transfer-Encoding": "chunked", "Content-Length": "4"},
        {"transfer-encoding": "chunked"},
        {"Content-Length": "0"},
        {"Connection": "keep-alive"},
        {"Connection": "close, X-Api-Key"},
        {"Keep-Alive": "timeout=5"},
        {"Upgrade": "h2c"},
        {"HTTP2-Settings": "AAMAAABkAAQAAP__"},
        {"TE": "trailers"},
        {"Trailer": "X-A"},
        {"Proxy-Connection": "x"},
        {"X-A": "1", "x-a": "2"},
        {"X-A": "a\r\nX-B: b"},
        {"X-A": "a\x0bb"},
        {"X-A": " a"},
        {"X-A": "a\n"},
        {"X-A": "\x85"},
        {"X A": "a"},
        {"": "a"},
    ],
)
async def test_headers_that_break_the_framing_or_cannot_be_sent_are_refused_at_submission_and_at_the_run(
    headers: dict[str, Any],
) -> None:
    args = {"url": "http://127.0.0.1:9/", "method": "POST", "body": "x", "headers": headers}
    with pytest.raises(Rejected) as refused:
        check_arguments("http.request", args)
    assert str(refused.value.field).startswith("args.headers")
    failed = failure(await run("http.request", args))
    assert (failed.type, failed.retryable) == ("InvalidArguments", False)


async def test_header_values_in_any_script_are_sent_as_utf8(serve: Serve) -> None:
    server = serve(lambda handler: say(handler, 200))
    success(await run("http.request", {"url": server.url, "headers": {"X-Name": "Grüße\tan alle", "X-Empty": ""}}))
    headers = server.asked[0][2]
    assert (headers["x-name"].encode("latin-1").decode(), headers["x-empty"]) == ("Grüße\tan alle", "")


async def test_a_webhook_delivery_follows_no_redirect_and_keeps_no_cookie(serve: Serve) -> None:
    other = serve(lambda handler: say(handler, 200))
    server = serve(lambda handler: say(handler, 307, location=other.url, set_cookie="a=b"))
    webhooks = Webhooks(refuse_private=False)
    for _ in range(2):
        message = Message(url=server.url, id="m", body=b"{}", headers={}, secrets=(new_secret(),), timeout_seconds=5)
        assert (await webhooks.send(message, 1.0)).error == "307"
    await webhooks.close()
    assert ([headers.get("cookie") for _, _, headers, _ in server.asked], other.asked) == ([None, None], [])


@pytest.mark.parametrize("secrets", [(), ("",), ("whsec_",)])
async def test_a_webhook_delivery_without_a_secret_is_not_sent(serve: Serve, secrets: tuple[str, ...]) -> None:
    server = serve(lambda handler: say(handler, 200))
    webhooks = Webhooks(refuse_private=False)
    message = Message(url=server.url, id="m", body=b"{}", headers={}, secrets=secrets, timeout_seconds=5)
    assert "secret" in str((await webhooks.send(message, 1.0)).error)
    await webhooks.close()
    assert server.asked == []

"""`http.request` against a real server: what it sends, follows, refuses and keeps."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import psutil
import pytest

from rota_server.apps.executor.builtin.http_request import BODY_LIMIT_BYTES
from rota_server.apps.executor.builtin.runner import BuiltinTasks
from tests.integration.builtin_tasks import Kept, attempt_of, failure, nowhere, run, success
from tests.integration.http_server import Serve, say, servers

METADATA = "http://169.254.169.254/latest/meta-data/"


@pytest.fixture
def serve() -> Iterator[Serve]:
    with servers() as start:
        yield start


async def test_a_request_is_sent_as_described_and_its_answer_is_the_result(serve: Serve) -> None:
    server = serve(lambda handler: say(handler, 201, b'{"ok": true}', content_type="application/json"))
    attempt = attempt_of(
        "http.request",
        {"method": "post", "url": f"{server.url}/hook?a=1", "json": {"b": None}, "headers": {"X-A": "z"}},
    )
    tasks = BuiltinTasks(nowhere)
    result = success(await tasks.run(attempt, Kept()))
    await tasks.close()
    assert (result["status"], result["body"], result["truncated"]) == (201, '{"ok": true}', False)
    assert result["headers"]["content-type"] == "application/json"
    ((method, path, headers, body),) = server.asked
    assert (method, path, json.loads(body)) == ("POST", "/hook?a=1", {"b": None})
    assert (headers["x-a"], headers["idempotency-key"]) == ("z", str(attempt.job_id))


@pytest.mark.parametrize(
    ("status", "expect", "outcome"),
    [
        (204, None, "success"),
        (404, None, "failure for good"),
        (404, 404, "success"),
        (404, [200, 404], "success"),
        (200, [404], "failure"),
        (429, None, "failure"),
        (503, None, "failure"),
    ],
)
async def test_what_status_means_success_and_what_may_be_retried(
    serve: Serve, status: int, expect: Any, outcome: str
) -> None:
    server = serve(lambda handler: say(handler, status))
    came = await run("http.request", {"url": server.url, **({} if expect is None else {"expect": expect})})
    if outcome == "success":
        assert success(came)["status"] == status
    else:
        assert (failure(came).type, failure(came).retryable) == ("UnexpectedStatus", outcome == "failure")


@pytest.mark.parametrize(
    "url",
    [
        METADATA,
        "http://2852039166/",  # the same as one number
        "http://0xa9fea9fe/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::1]/",
        "http://169.254.0.7/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://224.0.0.1/",
        "http://metadata.google.internal/",
        "http://METADATA.google.internal./",
    ],
)
async def test_link_local_and_metadata_addresses_are_refused_for_good(url: str) -> None:
    failed = failure(await run("http.request", {"url": url}))
    assert (failed.type, failed.retryable) == ("AddressRefused", False)


async def test_a_name_one_of_whose_addresses_is_forbidden_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(say)
    port = int(server.url.rpartition(":")[2])
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **options: Any) -> Any:
        if host != "rebinding.example":
            return real(host, *args, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.1", "169.254.169.254")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    failed = failure(await run("http.request", {"url": f"http://rebinding.example:{port}/"}))
    assert (failed.type, server.asked) == ("AddressRefused", [])


async def test_no_redirect_leads_to_a_metadata_address(serve: Serve) -> None:
    server = serve(lambda handler: say(handler, 302, location=METADATA))
    failed = failure(await run("http.request", {"url": server.url}))
    assert (failed.type, failed.retryable, len(server.asked)) == ("AddressRefused", False, 1)


async def test_a_redirect_to_a_metadata_address_is_refused_behind_another_one(serve: Serve) -> None:
    last = serve(lambda handler: say(handler, 307, location="http://[::ffff:169.254.169.254]/"))
    first = serve(lambda handler: say(handler, 307, location=last.url))
    failed = failure(await run("http.request", {"url": first.url, "method": "PUT"}))
    assert (failed.type, len(first.asked), len(last.asked)) == ("AddressRefused", 1, 1)


async def test_no_redirect_leads_away_from_http(serve: Serve) -> None:
    server = serve(lambda handler: say(handler, 302, location="file:///etc/passwd"))
    failed = failure(await run("http.request", {"url": server.url}))
    assert (failed.type, failed.retryable) == ("RedirectRefused", False)


async def test_redirects_are_followed_and_not_for_ever(serve: Serve) -> None:
    other = serve(lambda handler: say(handler, 200, b"there"))
    server = serve(lambda handler: say(handler, 303, location=other.url))
    assert success(await run("http.request", {"url": server.url, "method": "POST", "json": 1}))["body"] == "there"
    assert [(method, body) for method, _, _, body in other.asked] == [("GET", b"")]

    circle = serve(lambda handler: say(handler, 302, location="/again"))
    failed = failure(await run("http.request", {"url": circle.url}))
    assert (failed.type, len(circle.asked)) == ("TooManyRedirects", 6)


async def test_private_addresses_are_refused_where_the_settings_say_so(serve: Serve) -> None:
    server = serve(say)
    failed = failure(await run("http.request", {"url": server.url}, refuse_private=True))
    assert (failed.type, server.asked) == ("AddressRefused", [])


async def test_of_an_endless_answer_only_the_beginning_is_read(serve: Serve) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", str(10**12))
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    result = success(await run("http.request", {"url": serve(endless).url}))
    assert (len(result["body"]), result["truncated"]) == (BODY_LIMIT_BYTES, True)


async def test_an_answer_of_exactly_the_limit_is_whole(serve: Serve) -> None:
    server = serve(lambda handler: say(handler, 200, b"x" * (BODY_LIMIT_BYTES + int(handler.path[1:]))))
    for more, truncated in ((0, False), (1, True)):
        result = success(await run("http.request", {"url": f"{server.url}/{more}"}))
        assert (len(result["body"]), result["truncated"]) == (BODY_LIMIT_BYTES, truncated)


async def test_what_a_small_answer_unpacks_to_is_not_taken_into_memory(serve: Serve) -> None:
    bomb = gzip.compress(bytes(256 * 1024 * 1024), 9)
    server = serve(lambda handler: say(handler, 200, bomb, content_encoding="gzip"))
    process = psutil.Process()
    before, most, ended = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.001):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = success(await run("http.request", {"url": server.url}))
    finally:
        ended.set()
        watcher.join()
    assert (len(result["body"]), result["truncated"]) == (BODY_LIMIT_BYTES, True)
    assert most - before < 20 * 1024 * 1024


async def test_packed_answers_are_unpacked_and_broken_ones_fail(serve: Serve) -> None:
    whole = serve(lambda handler: say(handler, 200, gzip.compress(b"hello"), content_encoding="gzip"))
    assert success(await run("http.request", {"url": whole.url}))["body"] == "hello"
    broken = serve(lambda handler: say(handler, 200, b"no gzip", content_encoding="gzip"))
    assert failure(await run("http.request", {"url": broken.url})).type == "DecodingError"


async def test_bytes_that_are_no_text_come_as_base64(serve: Serve) -> None:
    server = serve(lambda handler: say(handler, 200, b"\xff\xfe\x00"))
    assert success(await run("http.request", {"url": server.url}))["body_base64"] == "//4A"


async def test_a_server_that_is_not_there_may_be_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        failed = failure(await run("http.request", {"url": f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/"}))
    assert (failed.type, failed.retryable) == ("ConnectError", True)
    assert "secret" not in failed.message

"""Bad input is a 4xx that names the field, without a traceback, and leaves nothing half written."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rota_server.apps.store.http.json_body import DEPTH_LIMIT
from rota_server.apps.store.http.requests import BODY_LIMIT_BYTES
from rota_server.apps.store.jobs.parsing import ARGS_LIMIT_BYTES
from rota_server.domain.ids import Position
from tests.integration.store.conftest import Stores

JSON = {"content-type": "application/json"}


def job(**fields: Any) -> bytes:
    return json.dumps({"task": "noop", **fields}).encode()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


MALFORMED = [b"", b"{", b'{"task":"noop",}', b"{'task':'noop'}", b"\xff\xfe", b'{"task":"noop"} x', b"[" * 100_000]

# What is sent, and the field that the answer must name.
WRONG: list[tuple[bytes, str]] = [
    (b"{}", "task"),
    (job(task=None), "task"),
    (job(task=""), "task"),
    (job(task="no spaces"), "task"),
    (job(task="x" * 201), "task"),
    (job(task="unknown"), "task"),
    (job(args=[]), "args"),
    (job(args="a"), "args"),
    (job(args=None), "args"),
    (job(args=[1, 2]), "args"),
    (job(argz={}), "argz"),
    (job(retry={"max_atempts": 3}), "retry.max_atempts"),
    (job(retry={"max_attempts": 0}), "retry.max_attempts"),
    (job(retry={"max_attempts": 1001}), "retry.max_attempts"),
    (job(retry={"max_losses": -1}), "retry.max_losses"),
    (job(retry={"max_losses": 1001}), "retry.max_losses"),
    (job(idempotent="yes"), "idempotent"),
    (job(retry={"max_attempts": 2.5}), "retry.max_attempts"),
    (job(retry={"max_attempts": "3"}), "retry.max_attempts"),
    (job(retry={"max_attempts": True}), "retry.max_attempts"),
    (job(retry={"backoff": "random"}), "retry.backoff"),
    (job(retry={"initial": -1}), "retry.initial"),
    (job(retry={"factor": 0}), "retry.factor"),
    (job(retry={"jitter": 1.01}), "retry.jitter"),
    (job(retry=5), "retry"),
    (job(queue=""), "queue"),
    (job(queue="a b"), "queue"),
    (job(queue="a:b"), "queue"),
    (job(queue="q" * 101), "queue"),
    (job(queue="q\n"), "queue"),
    (job(queue=None), "queue"),
    (job(priority="urgent"), "priority"),
    (job(priority=1), "priority"),
    (job(delay=-1), "delay"),
    (job(delay=-0.001), "delay"),
    (job(delay="5"), "delay"),
    (job(delay=True), "delay"),
    (job(delay=10 * 366 * 24 * 3600 + 1), "delay"),
    (b'{"task":"noop","delay":1e400}', "delay"),
    (b'{"task":"noop","delay":NaN}', "delay"),
    (b'{"task":"noop","delay":-Infinity}', "delay"),
    (b'{"task":"noop","delay":%s}' % (b"9" * 5000), "delay"),
    (job(timeout=0), "timeout"),
    (job(timeout=-5), "timeout"),
    (job(timeout=1e300), "timeout"),
    (job(run_at="2037-01-01T09:00:00"), "run_at"),
    (job(run_at="2037-01-01"), "run_at"),
    (job(run_at="tomorrow"), "run_at"),
    (job(run_at=1_900_000_000), "run_at"),
    (job(run_at="2037-02-30T09:00:00Z"), "run_at"),
    (job(run_at="2037-01-01T25:00:00Z"), "run_at"),
    (job(run_at="2037-01-01T09:00:00+99:00"), "run_at"),
    (job(run_at="9999-12-31T23:59:59-12:00"), "run_at"),
    (job(run_at="0001-01-01T00:00:00Z"), "run_at"),
    (job(run_at="2037-01-01T09:00:00Z\n"), "run_at"),
    (job(run_at="2037-01-01T09:00:00Z", delay=5), "delay"),
    (job(expires_at="2037-01-01T09:00:00"), "expires_at"),
    (job(run_at="2037-01-01T09:00:00Z", expires_at="2037-01-01T09:00:00Z"), "expires_at"),
    (job(delay=3600, expires_at="2026-01-01T00:00:00Z"), "expires_at"),
    (job(tags=["a"]), "tags"),
    (job(tags={"a": 1}), "tags.a"),
    (job(tags={"a": None}), "tags.a"),
    (job(tags={"": "x"}), "tags."),
    (job(tags={"a b": "x"}), "tags.a b"),
    (job(tags={"n" * 65: "x"}), f"tags.{'n' * 65}"),
    (job(tags={"a": "x" * 257}), "tags.a"),
    (job(tags={f"t{n}": "x" for n in range(21)}), "tags"),
    (job(args={"a": nested(DEPTH_LIMIT + 1)}), "args"),
    (b'{"task":"noop","args":{"a":"\\u0000"}}', "args.a"),
    (b'{"task":"noop","args":{"a":{"b":["x","y\\u0000z"]}}}', "args.a.b.1"),
    (b'{"task":"noop","args":{"k\\u0000":1}}', "args.k\\x00"),
    (b'{"task":"noop","args":{"a":"\\ud800"}}', "args.a"),
    (b'{"task":"noop","args":{"\\udfff":1}}', "args.\\udfff"),
    (b'{"task":"noop","args":{"a":"\xed\xa0\x80"}}', "args.a"),
    (b'{"task":"no\\u0000op"}', "task"),
    (b'{"task":"noop","tags":{"a":"\\u0000"}}', "tags.a"),
    (b'{"task":"noop","args":{"n":18446744073709551616}}', "args.n"),
    (b'{"task":"noop","args":{"n":[-9223372036854775809]}}', "args.n.0"),
    (b'{"task":"noop","args":{"n":1e999}}', "args.n"),
    (job(idempotency_key=""), "Idempotency-Key"),
    (job(idempotency_key="line\n"), "Idempotency-Key"),
    (job(idempotency_key=7), "idempotency_key"),
    (job(task="http.request", args={}), "args.url"),
    (job(task="http.request", args={"url": "ftp://x"}), "args.url"),
    (job(task="shell.run", args={"command": "rm -rf"}), "args.command"),
    (job(task="shell.run", args={"command": ["x"], "shell": True}), "args.shell"),
    (job(task="email.send", args={"to": "nobody", "subject": "s", "text": "t"}), "args.to"),
]


def assert_problem(answer: httpx.Response, status: int | None = None) -> dict[str, Any]:
    assert 400 <= answer.status_code < 500, answer.text
    assert status in (None, answer.status_code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["title"]
    assert problem["detail"]
    assert len(answer.content) < 4000
    return problem


@pytest.fixture
async def strict(stores: Stores, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client after whose requests nothing must be in the log."""
    yield client
    assert await stores.parts.log.read_raw(Position(0), 10) == []
    assert await stores.parts.index.queue_counts() == {}


async def test_malformed_json_is_refused_with_its_place(strict: httpx.AsyncClient):
    for body in MALFORMED:
        problem = assert_problem(await strict.post("/v1/jobs", content=body, headers=JSON))
        assert problem["code"] in ("malformed-json", "too-deep"), body[:50]
    problem = assert_problem(await strict.post("/v1/jobs", content=b'{"task":\n "a" 1}', headers=JSON), 400)
    assert "line 2" in problem["detail"]


def deep_bodies(depth: int) -> list[bytes]:
    brackets, objects = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth
    number = b"12345678901234567890"
    return [
        brackets,
        objects,
        b'{"task":"noop","name":"n","args":%b}' % objects,
        b'{"task":"noop","name":"n","args":{"n":%b,"v":%b}}' % (number, brackets),
        b'{"jobs":[{"task":"noop","args":{"n":1e999,"v":%b}}],"filter":%b}' % (brackets, objects),
    ]


async def writing_routes(client: httpx.AsyncClient) -> list[tuple[str, str, str]]:
    """Every operation that takes JSON: its method, a path of it and the media type."""
    found = []
    document = (await client.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            kinds = operation.get("requestBody", {}).get("content", {})
            real = path.replace("{id}", "00000000-0000-0000-0000-000000000001").replace("{name}", "n")
            found += [(method, real, kind) for kind in kinds if "json" in kind]
    return found


async def test_no_depth_of_nesting_ends_in_an_internal_error(strict: httpx.AsyncClient):
    routes = await writing_routes(strict)
    assert len(routes) > 20
    for depth in (70, 980, 1000, 1023, 1024, 3000):
        for method, path, kind in routes:
            for body in deep_bodies(depth):
                content = b"[%b]" % body if path == "/v1/jobs/bulk" else body
                answer = await strict.request(method, path, content=content, headers={"content-type": kind})
                if answer.status_code != 200:
                    assert assert_problem(answer)["code"] == "too-deep", (method, path, depth)
                else:
                    (result,) = answer.json()["results"]
                    assert result["problem"]["code"] == "too-deep"


async def test_a_name_that_is_there_twice_is_refused_in_jobs_as_in_events(strict: httpx.AsyncClient):
    for body, name in ((b'{"task":"noop","task":"noop"}', "task"), (b'{"task":"noop","args":{"a":1,"a":2}}', "a")):
        assert assert_problem(await strict.post("/v1/jobs", content=body, headers=JSON), 422)["field"] == name


async def test_what_is_no_object_is_refused(strict: httpx.AsyncClient):
    for body in (b"[]", b"null", b"1", b'"noop"', b"true"):
        problem = assert_problem(await strict.post("/v1/jobs", content=body, headers=JSON), 422)
        assert problem["code"] == "wrong-type"


async def test_every_wrong_field_is_named(strict: httpx.AsyncClient):
    for body, field in WRONG:
        problem = assert_problem(await strict.post("/v1/jobs", content=body, headers=JSON), 422)
        assert problem["field"] == field, (body[:200], problem)
        assert problem["code"]


async def test_the_same_faults_are_found_in_bulk_item_by_item(strict: httpx.AsyncClient):
    lines = [body.replace(b"\n", b" ") for body, _ in WRONG]
    array = b"[" + b",".join(body for body, _ in WRONG) + b"]"
    for content, kind in ((array, "application/json"), (b"\n".join(lines), "application/x-ndjson")):
        answer = await strict.post("/v1/jobs/bulk", content=content, headers={"content-type": kind})
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert len(results) == len(WRONG)
        for result, (body, field) in zip(results, WRONG, strict=True):
            assert result["status"] == 422, body[:200]
            assert result["problem"]["field"] == field
            assert "id" not in result


async def test_limits_hold_at_the_limit_and_one_above(client: httpx.AsyncClient):
    fitting = "x" * (ARGS_LIMIT_BYTES - len('{"a":""}'))
    assert (await client.post("/v1/jobs", content=job(args={"a": fitting}), headers=JSON)).status_code == 201
    above = await client.post("/v1/jobs", content=job(args={"a": fitting + "x"}), headers=JSON)
    assert assert_problem(above, 413)["field"] == "args"
    deep = await client.post("/v1/jobs", content=job(args={"a": nested(DEPTH_LIMIT)}), headers=JSON)
    assert deep.status_code == 201
    integers = b'{"task":"noop","args":{"n":[18446744073709551615,-9223372036854775808]}}'
    kept = await client.post("/v1/jobs", content=integers, headers=JSON)
    assert kept.json()["args"]["n"] == [2**64 - 1, -(2**63)]
    padding = b" " * (BODY_LIMIT_BYTES - len(job()))
    assert (await client.post("/v1/jobs", content=job() + padding, headers=JSON)).status_code == 201
    assert_problem(await client.post("/v1/jobs", content=job() + padding + b" ", headers=JSON), 413)


async def test_a_body_of_5_mb_is_refused_by_a_real_server_that_goes_on(stores: Stores):
    server = await stores.serve()
    big = b"x" * 5_000_000

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    async with httpx.AsyncClient(base_url=server.url) as client:
        assert_problem(await client.post("/v1/jobs", content=big, headers=JSON), 413)
        assert_problem(await client.post("/v1/jobs", content=pieces(), headers=JSON), 413)
        assert_problem(await client.post("/v1/events", content=pieces(), headers=JSON), 415)
        assert (await client.post("/v1/jobs", content=job(), headers=JSON)).status_code == 201


async def test_other_media_types_and_encodings_are_refused(strict: httpx.AsyncClient):
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/xml"):
        answer = await strict.post("/v1/jobs", content=job(), headers={"content-type": kind})
        assert assert_problem(answer, 415)["field"] == "Content-Type"
    answer = await strict.post("/v1/jobs", content=job(), headers={**JSON, "content-encoding": "gzip"})
    assert assert_problem(answer, 415)["field"] == "Content-Encoding"


async def test_unusable_headers_are_named(strict: httpx.AsyncClient):
    for name, value in (
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "k" * 256),
        ("Idempotency-Key", "käse".encode()),
        ("Rota-Correlation-Id", "two words"),
        ("Rota-Actor", "two words"),
    ):
        answer = await strict.post("/v1/jobs", content=job(), headers={**JSON, name: value})
        assert assert_problem(answer, 422)["field"] == name


async def test_unknown_paths_and_methods_are_problems(strict: httpx.AsyncClient):
    assert_problem(await strict.get("/v1/nothing"), 404)
    assert_problem(await strict.get("/"), 404)
    assert_problem(await strict.put("/v1/jobs", content=job()), 405)
    assert_problem(await strict.delete("/v1/jobs/actions"), 405)


async def test_a_refused_method_is_told_all_that_the_path_has(strict: httpx.AsyncClient):
    for path, allowed in (
        ("/v1/jobs", "GET, HEAD, OPTIONS, POST"),
        ("/v1/jobs/actions", "OPTIONS, POST"),
        ("/v1/schedules/nightly", "GET, HEAD, OPTIONS, PATCH"),
        ("/v1/events", "GET, HEAD, OPTIONS, POST"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ):
        for method in ("DELETE", "TRACE", "BREW"):
            answer = await strict.request(method, path)
            assert_problem(answer, 405)
            assert answer.headers["allow"] == allowed, (method, path)
        answer = await strict.options(path)
        assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")


async def test_a_path_that_is_written_out_is_no_id(strict: httpx.AsyncClient):
    assert_problem(await strict.get("/v1/jobs/bulk"), 405)
    assert_problem(await strict.get("/v1/schedules/preview"), 405)


WRONG_QUERIES = [
    ("/v1/jobs?state=asleep", "state"),
    ("/v1/jobs?colour=red", "colour"),
    ("/v1/jobs?limit=0", "limit"),
    ("/v1/jobs?limit=501", "limit"),
    ("/v1/jobs?limit=ten", "limit"),
    ("/v1/jobs?limit=-1", "limit"),
    ("/v1/jobs?cursor=x", "cursor"),
    ("/v1/jobs?cursor=pffffffffffffffff", "cursor"),
    ("/v1/jobs?tag=billing", "tag"),
    ("/v1/jobs?tag=:x", "tag"),
    ("/v1/jobs?tag=a:%00", "tag"),
    ("/v1/jobs?queue=%00", "queue"),
    ("/v1/jobs?task=" + "x" * 301, "task"),
    ("/v1/jobs?submitted_after=2026-01-01", "submitted_after"),
    ("/v1/jobs?submitted_before=yesterday", "submitted_before"),
    ("/v1/jobs?at_least=-1", "at_least"),
    ("/v1/jobs?at_least=99999999999999999999", "at_least"),
    ("/v1/jobs?at_least=1000001", "at_least"),
    ("/v1/events?at_least=1000001", "at_least"),
    ("/v1/cluster?at_least=1000001", "at_least"),
    ("/v1/jobs?limit=%D9%A3", "limit"),
    ("/v1/events?after=-1", "after"),
    ("/v1/events?after=x", "after"),
    ("/v1/events?limit=1001", "limit"),
    ("/v1/events?stream=x", "stream"),
    ("/v1/events?type=%00", "type"),
    ("/v1/events?correlation=a%00", "correlation"),
    ("/v1/events/stream?after=x", "after"),
    ("/v1/jobs/00000000-0000-0000-0000-000000000000?at=x", "at"),
]


async def test_wrong_parameters_of_reads_are_named(strict: httpx.AsyncClient):
    for path, field in WRONG_QUERIES:
        assert assert_problem(await strict.get(path), 422)["field"] == field, path


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(["noop", "http.request", "2037-01-01T00:00:00Z", "high", "default"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "task",
        "args",
        "queue",
        "priority",
        "run_at",
        "delay",
        "timeout",
        "expires_at",
        "tags",
        "retry",
        "idempotency_key",
    ]
)
BODIES = (
    st.dictionaries(FIELDS | st.text(max_size=5), ANYTHING, max_size=6).map(
        lambda d: json.dumps({"task": "noop", **d}).encode()
    )
    | ANYTHING.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, path=st.sampled_from(["/v1/jobs", "/v1/jobs/bulk", "/v1/jobs/actions", "/v1/events"]))
async def test_no_body_whatever_ends_in_an_internal_error(client: httpx.AsyncClient, body: bytes, path: str):
    kind = "application/cloudevents+json" if path == "/v1/events" else "application/json"
    content = b"[" + body + b"]" if path == "/v1/jobs/bulk" else body
    answer = await client.post(path, content=content, headers={"content-type": kind})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert_problem(answer)
    else:
        assert answer.json() is not None

"""`http.request`: one request, its redirects followed with care, its answer read up to a limit."""

from __future__ import annotations

import base64
import time
import zlib
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
import orjson

from adapters.http.addresses import AddressRefused, checked_pool
from apps.executor.attempts import Attempt
from apps.executor.builtin.errors import TaskFailed
from domain.builtin_tasks import HttpRequest

BODY_LIMIT_BYTES = 128 * 1024
"""How much of an answer is kept, after decompression; nothing behind it is read."""

REDIRECT_LIMIT = 5
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 300.0
"""Between two bytes of an answer; the job's timeout limits the whole."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
RETRYABLE_STATUSES = frozenset({408, 421, 425, 429})
PRIVATE_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
USER_AGENT = "rota/0.1"
PACKED = frozenset({"gzip", "x-gzip", "deflate"})
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class HttpRequests:
    """Runs `http.request` over one pool of connections."""

    def __init__(self, *, refuse_private: bool) -> None:
        transport = httpx.AsyncHTTPTransport(trust_env=False, retries=0)
        # httpx has no other way to a network backend
        transport._pool = checked_pool(refuse_private=refuse_private, max_connections=200)  # noqa: SLF001
        timeout = httpx.Timeout(IDLE_SECONDS, connect=CONNECT_SECONDS)
        self._client = httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)

    async def run(self, arguments: HttpRequest, attempt: Attempt) -> dict[str, Any]:
        """Status, headers and the beginning of the body. Raises TaskFailed for an unexpected status."""
        began = time.monotonic()
        try:
            result = await self._follow(arguments, attempt)
        except TaskFailed:
            raise
        except AddressRefused as error:
            raise TaskFailed("AddressRefused", str(error), retryable=False) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise TaskFailed("InvalidUrl", str(error), retryable=False) from error
        except (httpx.HTTPError, httpcore.NetworkError, httpcore.TimeoutException, OSError) as error:
            raise TaskFailed(type(error).__name__, f"{_origin(arguments.url)}: {error or 'no answer'}") from error
        result["elapsed_seconds"] = round(time.monotonic() - began, 3)
        if not arguments.expected(result["status"]):
            said = str(result.get("body", ""))[:500]
            status = result["status"]
            retryable = status >= 500 or status in RETRYABLE_STATUSES or arguments.expect is not None
            raise TaskFailed("UnexpectedStatus", f"{status} from {_origin(arguments.url)}: {said}", retryable=retryable)
        return result

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _follow(self, arguments: HttpRequest, attempt: Attempt) -> dict[str, Any]:
        method, url = arguments.method, arguments.url
        headers = self._headers(arguments, attempt)
        content = _content(arguments, headers)
        for _ in range(REDIRECT_LIMIT + 1):
            request = self._client.build_request(method, url, headers=headers, content=content)
            answer = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                target = answer.headers.get("location")
                follow = answer.status_code in REDIRECTS and target and not arguments.expected(answer.status_code)
                if not follow:
                    return await _result(answer, url)
            finally:
                await answer.aclose()
            url, method, content = _redirected(answer.status_code, url, str(target), method, content, headers)
        raise TaskFailed("TooManyRedirects", f"more than {REDIRECT_LIMIT} redirects", retryable=False)

    @staticmethod
    def _headers(arguments: HttpRequest, attempt: Attempt) -> dict[str, str]:
        headers = {
            "user-agent": USER_AGENT,
            "accept-encoding": "gzip, deflate",
            "idempotency-key": str(attempt.job_id),
        }
        if attempt.traceparent is not None:
            headers["traceparent"] = attempt.traceparent
        headers.update({name.lower(): value for name, value in arguments.headers.items()})
        return headers


def _content(arguments: HttpRequest, headers: dict[str, str]) -> bytes | None:
    if arguments.body is not None:
        return arguments.body.encode()
    if "json_" in arguments.model_fields_set:
        headers.setdefault("content-type", "application/json")
        return orjson.dumps(arguments.json_)
    return None


def _redirected(
    status: int, url: str, target: str, method: str, content: bytes | None, headers: dict[str, str]
) -> tuple[str, str, bytes | None]:
    """Where to go next (RFC 9110, 15.4), without credentials for another origin."""
    following = urljoin(url, target)
    if urlsplit(following).scheme not in ("http", "https"):
        raise TaskFailed("RedirectRefused", "a redirect leads to something that is not HTTP", retryable=False)
    if _origin(following) != _origin(url):
        for name in PRIVATE_HEADERS & headers.keys():
            del headers[name]
    if status == 303 or (status in (301, 302) and method == "POST"):
        headers.pop("content-type", None)
        return following, "HEAD" if method == "HEAD" else "GET", None
    return following, method, content


async def _result(answer: httpx.Response, url: str) -> dict[str, Any]:
    content, truncated = await _beginning(answer)
    result: dict[str, Any] = {
        "status": answer.status_code,
        "headers": {name: value[:2000] for name, value in list(answer.headers.items())[:100]},
        "truncated": truncated,
        "url": url,
    }
    try:
        text = content.decode(answer.charset_encoding or "utf-8")
        result["body"] = text
    except (UnicodeDecodeError, LookupError):
        if truncated and _is_text(content):
            result["body"] = content.decode(errors="ignore")
        else:
            result["body_base64"] = base64.b64encode(content).decode()
    return result


async def _beginning(answer: httpx.Response) -> tuple[bytes, bool]:
    """The body up to the limit, and whether there is more of it.

    Unpacked here and never beyond the limit: a few kilobytes can unpack to gigabytes, and httpx unpacks all it has.
    """
    packed = answer.headers.get("content-encoding", "").strip().lower() in PACKED
    unpack = zlib.decompressobj(GZIP_OR_ZLIB) if packed else None
    content = bytearray()
    async for part in answer.aiter_raw():
        wanted = BODY_LIMIT_BYTES + 1 - len(content)
        try:
            content += part[:wanted] if unpack is None else unpack.decompress(part, wanted)
        except zlib.error as error:
            raise TaskFailed("DecodingError", f"the answer can not be unpacked: {error}") from error
        if len(content) > BODY_LIMIT_BYTES:
            return bytes(content[:BODY_LIMIT_BYTES]), True
    return bytes(content), False


def _is_text(content: bytes) -> bool:
    try:
        content[:-4].decode()
    except UnicodeDecodeError:
        return False
    return True


def _origin(url: str) -> str:
    """Scheme, host and port: what may stand in an error (no credentials, no query)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"

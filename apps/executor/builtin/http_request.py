"""`http.request`: one request, its redirects followed with care, its answer read up to a limit."""

from __future__ import annotations

import base64
import time
import zlib
from collections import defaultdict
from typing import Any

import httpcore
import httpx

from rota_server.adapters.http.addresses import AddressRefused, checked_pool
from rota_server.apps.executor.attempts import Attempt
from rota_server.apps.executor.builtin.errors import TaskFailed
from rota_server.apps.executor.builtin.http_steps import first_step, origin_of, shown_origin
from rota_server.domain.builtin.tasks import HttpRequest

BODY_LIMIT_BYTES = 128 * 1024
"""How much of an answer is kept, after decompression; nothing after it is read."""

REDIRECT_LIMIT = 5
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 300.0
"""Between two bytes of an answer; the job's timeout limits the whole."""

TIMEOUT = httpx.Timeout(IDLE_SECONDS, connect=CONNECT_SECONDS)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
RETRYABLE_STATUSES = frozenset({408, 421, 425, 429})
PACKED = frozenset({"gzip", "x-gzip", "deflate"})
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class HttpRequests:
    """Runs `http.request` over one pool of connections, which is all that jobs share: no cookies, no credentials."""

    def __init__(self, *, refuse_private: bool) -> None:
        self._transport = httpx.AsyncHTTPTransport(trust_env=False, retries=0)
        # httpx has no other way to a network backend
        self._transport._pool = checked_pool(refuse_private=refuse_private, max_connections=200)  # noqa: SLF001

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
            raise TaskFailed(type(error).__name__, f"{shown_origin(arguments.url)}: {error or 'no answer'}") from error
        result["elapsed_seconds"] = round(time.monotonic() - began, 3)
        if not arguments.expected(result["status"]):
            said = str(result.get("body", ""))[:500]
            status = result["status"]
            retryable = status >= 500 or status in RETRYABLE_STATUSES or arguments.expect is not None
            raise TaskFailed(
                "UnexpectedStatus", f"{status} from {shown_origin(arguments.url)}: {said}", retryable=retryable
            )
        return result

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _follow(self, arguments: HttpRequest, attempt: Attempt) -> dict[str, Any]:
        """Send the request, and what its redirects make of it, at most `REDIRECT_LIMIT` times more."""
        step = first_step(arguments, attempt)
        cookies: defaultdict[str, httpx.Cookies] = defaultdict(httpx.Cookies)  # by origin, for this job alone
        for _ in range(REDIRECT_LIMIT + 1):
            request = httpx.Request(step.method, step.url, headers=step.wire_headers(), content=step.content)
            request.extensions = {"timeout": TIMEOUT.as_dict()}
            jar = cookies[origin_of(step.url)]
            jar.set_cookie_header(request)
            answer = await self._transport.handle_async_request(request)
            answer.request = request
            try:
                jar.extract_cookies(answer)
                target = answer.headers.get("location")
                follow = answer.status_code in REDIRECTS and target and not arguments.expected(answer.status_code)
                if not follow:
                    return await _result(answer, step.url)
            finally:
                await answer.aclose()
            step = step.redirected(answer.status_code, str(target))
        raise TaskFailed("TooManyRedirects", f"more than {REDIRECT_LIMIT} redirects", retryable=False)


async def _result(answer: httpx.Response, url: httpx.URL) -> dict[str, Any]:
    content, truncated = await _beginning(answer)
    result: dict[str, Any] = {
        "status": answer.status_code,
        "headers": {name: value[:2000] for name, value in list(answer.headers.items())[:100]},
        "truncated": truncated,
        "url": str(url),
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
            raise TaskFailed("DecodingError", f"the answer cannot be unpacked: {error}") from error
        if len(content) > BODY_LIMIT_BYTES:
            return bytes(content[:BODY_LIMIT_BYTES]), True
    return bytes(content), False


def _is_text(content: bytes) -> bool:
    try:
        content[:-4].decode()
    except UnicodeDecodeError:
        return False
    return True

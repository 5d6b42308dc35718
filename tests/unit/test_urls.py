"""Which URLs can be asked at all."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota_server.domain.builtin.tasks import check_arguments
from rota_server.domain.errors import Rejected
from rota_server.domain.urls import has_userinfo, ipv4_meant, url_problem

IMPOSSIBLE = [
    "http://example.org:65536/",
    "http://example.org:99999999999999999999/",
    "http://example.org:0/",
    "http://example.org:8o/",
    "http://example.org:-1/",
    "http://example.org:٣/",
    "http://",
    "http:///path",
    "http://:80/",
    "http://user:secret@/",
    "http://?a=1",
    "http://[::1/",
    "http://::1/",
    "http://::1]/",
    "http://[::1]8080/",
    "http://[]/",
    "http://[::g]/",
    "http://[fe80::1%25eth0]/",
    "http://[v1.fe]/",
    "http://exa mple.org/",
    "http://example.org/a b",
    "http://example.org/\t",
    "http://example.org/\x1b[31m",
    "http://example.org/\u0085",
    "http://example.org/\u2028",
    "http://example.org/\u202egnp.exe",
    "http://example..org/",
    "http://.example.org/",
    "http://" + "a" * 64 + ".org/",
    "http://" + "a." * 130 + "org/",
    "http://exa%6dple.org/",
    "http://{host}/",
    "http://a,b/",
    "http://good\\@evil/",
    "http://256.1.1.1/",
    "http://1.2.3.4.5/",
    "http://4294967296/",
    "http://08.1.1.1/",
    "http://" + "ü" * 64 + ".org/",
    "ftp://example.org/",
    "//example.org/",
    "example.org",
    "",
]
POSSIBLE = [
    "http://example.org",
    "https://example.org:65535/a?b=c#d",
    "HTTPS://EXAMPLE.ORG/",
    "http://example.org:/",
    "http://example.org./",
    "http://my_service:8080/",
    "http://user:pass@example.org/",
    "http://127.0.0.1:1/",
    "http://127.1/",
    "http://0x7f.1/",
    "http://2130706433/",
    "http://[::1]:80/",
    "http://[::ffff:1.2.3.4]/",
    "http://münchen.example/ä",
    "http://3com.example/",
    "http://example.org/[x]{y}\\z",
]


@pytest.mark.parametrize("url", IMPOSSIBLE)
def test_a_url_that_can_never_work_is_refused_at_submission(url: str) -> None:
    assert url_problem(url) is not None
    with pytest.raises(Rejected) as refused:
        check_arguments("http.request", {"url": url})
    assert refused.value.field == "args.url"


@pytest.mark.parametrize("url", POSSIBLE)
def test_a_url_that_may_work_is_taken(url: str) -> None:
    assert url_problem(url) is None
    check_arguments("http.request", {"url": url})


@pytest.mark.parametrize(
    ("url", "has"), [("http://a:b@c/", True), ("http://@c", True), ("http://c/@", False), ("http://c?a@b", False)]
)
def test_what_stands_before_an_at_sign_is_seen(url: str, *, has: bool) -> None:
    assert has_userinfo(url) is has


@given(st.text(alphabet="0123456789abcdefxX.", max_size=20))
def test_numbers_mean_the_address_that_the_system_takes_them_for(host: str) -> None:
    try:
        meant = str(ipaddress.IPv4Address(socket.inet_aton(host)))
    except OSError:
        meant = None
    found = ipv4_meant(host)
    if not host.endswith("."):  # only resolvers take the root's dot
        assert (None if found is None else str(found)) == meant

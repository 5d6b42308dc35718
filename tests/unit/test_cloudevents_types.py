"""The types of CloudEvents 1.0.2, point by point."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from rota_server.domain.cloudevents import (
    is_absolute_uri,
    is_media_type,
    is_uri_reference,
    parse_timestamp,
    string_problem,
)


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/cloudevents",
        "mailto:cncf-wg-serverless@lists.cncf.io",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "/cloudevents/spec/pull/123",
        "/sensors/tn-1234567/alerts",
        "1-555-123-4567",
        "../up?query=1#part",
        "//host.example:80/path",
        "http://[2001:db8::7]/c=GB?objectClass?one",
        "a%20b",
        "?only=query",
        "tel:+1-816-555-1212",
        "file:///etc/fstab",
    ],
)
def test_a_source_may_be_any_uri_reference(text: str):
    assert is_uri_reference(text)


@pytest.mark.parametrize(
    "text",
    ["/s p", "a b", "http://exa mple.org", "%zz", "%4", "1:2", "/näme", "http://[::g]/", "http://[:::]/", "a^b", "<x>",
     "\\",
     "http://host:port/", '"', "a\n", "{id}"],
)  # fmt: skip
def test_what_is_no_uri_reference_is_told(text: str):
    assert not is_uri_reference(text)


def test_a_schema_is_an_absolute_uri():
    assert is_absolute_uri("https://example.org/order?v=1")
    assert is_absolute_uri("urn:x:y")
    for text in ("/order", "order", "https://example.org/order#part", "//example.org", ":x", "1a:b"):
        assert not is_absolute_uri(text)


def test_media_types_have_a_type_a_subtype_and_parameters():
    for text in ("text/plain", "application/json; charset=utf-8", 'a/b; x="y z"; c=d', "application/vnd.x+json"):
        assert is_media_type(text)
    for text in ("text", "text/", "/plain", "text plain", "a/b; c", "a/b; c=", "a/b\x00", "a/b; =c", "ä/b"):
        assert not is_media_type(text)


def test_instants_are_those_of_rfc_3339():
    assert parse_timestamp("2018-04-05T17:31:00Z") == datetime(2018, 4, 5, 17, 31, tzinfo=UTC)
    shifted = datetime(1985, 4, 12, 23, 20, 50, 520000, timezone(timedelta(hours=-8)))
    assert parse_timestamp("1985-04-12t23:20:50.52-08:00") == shifted
    assert parse_timestamp("2018-04-05 17:31:00.1234567890Z").microsecond == 123456
    for text in (
        "2018-04-05", "2018-04-05T17:31:00", "2018-04-05T24:00:00Z", "2018-02-30T00:00:00Z", "2018-04-05T17:31Z",
        "2018-04-05T17:31:61Z", "2018-04-05T17:31:00+24:00", "2018-04-05T17:31:00+0100", "20180405T173100Z",
        "٢٠١٨-04-05T17:31:00Z",
        "2018-04-05T17:31:00.Z", "1990-12-31T23:59:60Z", "",
    ):  # fmt: skip
        with pytest.raises(ValueError):
            parse_timestamp(text)


def test_strings_have_no_control_characters_noncharacters_or_lone_surrogates():
    assert string_problem("Euro € 😀") is None
    for code in (0x00, 0x0A, 0x1F, 0x7F, 0x85, 0x9F, 0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFF, 0x10FFFE, 0xD800, 0xDFFF):
        assert string_problem(f"a{chr(code)}b") is not None, hex(code)

"""Calendar files through HTTP and the command line: what could not be understood is refused, or skipped and told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from rota_server.apps.cli.main import main
from tests.integration.store.conftest import Stores

CASES = Path(__file__).parents[2] / "cases"


async def test_a_file_with_an_odd_event_is_refused_with_its_line_or_taken_without_it(client: httpx.AsyncClient) -> None:
    text = (CASES / "one-bad-event.ics").read_text(encoding="utf-8")
    refused = await client.post("/v1/calendars", json={"name": "odd", "icalendar": text})
    assert (refused.status_code, refused.json()["field"]) == (422, "icalendar")
    assert "line 13" in refused.json()["detail"]
    made = await client.post("/v1/calendars", json={"name": "odd", "icalendar": text, "skip_invalid": True})
    assert made.status_code == 201
    (skipped,) = made.json()["skipped"]
    assert (skipped["line"], skipped["event"]) == (13, "bad@cases.test")
    assert (await client.get("/v1/calendars/odd")).json()["skipped"] == [skipped]
    rule = {"cron": "0 12 * * *", "timezone": "Europe/Berlin", "calendars": ["odd"]}
    shown = (
        await client.post("/v1/schedules/preview", json={**rule, "after": "2027-02-14T00:00:00Z", "count": 4})
    ).json()
    assert [tick["outcome"] for tick in shown["ticks"]] == ["tick", "skip", "tick", "skip"]
    plain = (CASES / "windows-zone.ics").read_text(encoding="utf-8")
    changed = await client.patch("/v1/calendars/odd", json={"icalendar": plain})
    assert (changed.json()["skipped"], changed.json()["warnings"]) == ([], [])
    told = await client.patch("/v1/calendars/odd", json={"icalendar": plain.replace("END:VEVENT", "END:VEVENT\nX:1")})
    assert told.status_code == 200
    for wrong in ({"skip_invalid": True}, {"skipped": []}, {"icalendar": text, "skip_invalid": 1}):
        assert (await client.post("/v1/calendars", json={"name": "x", **wrong})).status_code == 422


async def test_the_command_line_says_what_was_left_out(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROTA_URL", (await stores.serve()).url)

    async def told(*command: str) -> tuple[Any, str]:
        def call() -> Any:
            with pytest.raises(SystemExit) as ended:
                main(["calendars", *command])
            return ended.value.code

        status = await asyncio.to_thread(call)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    file = ("--icalendar", str(CASES / "one-bad-event.ics"))
    status, text = await told("create", "odd", *file)
    assert status != 0
    assert "line 13" in text
    status, text = await told("create", "odd", *file, "--skip-invalid")
    assert status in (0, None)
    assert "skipped: line 13 (bad@cases.test): 'Nowhere/Land' is no time zone" in text.replace("\n", " ")
    marked = ("--icalendar", str(CASES / "byte-order-mark.ics"))
    assert json.loads((await told("create", "marked", *marked, "--json"))[1])["skipped"] == []

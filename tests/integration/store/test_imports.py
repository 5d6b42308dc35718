"""`rota import` against a store: shown first, created when told to, once however often, and what went is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from rota_server.apps.cli.main import main
from rota_server.domain.ids import Position
from tests.integration.store.conftest import Stores

FIXTURES = Path(__file__).parents[2] / "fixtures" / "imports"
Run = Callable[..., Awaitable[tuple[Any, str]]]
CRONTAB = "CRON_TZ=Europe/Berlin\n# Nightly.\n15 2 * * * /srv/report --full\n*/5 * * * * echo 50\\% done%in\n"


@pytest.fixture
async def run(stores: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line on a store."""
    monkeypatch.setenv("ROTA_URL", (await stores.serve()).url)

    async def run_one(*command: str) -> tuple[Any, str]:
        def call() -> Any:
            with pytest.raises(SystemExit) as ended:
                main(["import", *command])
            return ended.value.code

        status = await asyncio.to_thread(call)
        return status, capsys.readouterr().out

    return run_one


@pytest.fixture
def crontab(tmp_path: Path) -> Path:
    path = tmp_path / "crontab"
    path.write_text(CRONTAB)
    return path


async def schedules(client: httpx.AsyncClient) -> dict[str, Any]:
    items = (await client.get("/v1/schedules")).json()["items"]
    return {item["name"]: item for item in items if item["state"] != "archived"}


async def test_without_apply_nothing_is_changed_and_no_store_is_needed(
    run: Run, crontab: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROTA_URL", "http://127.0.0.1:1")
    status, text = await run("crontab", str(crontab))
    assert status == 0
    assert text.splitlines()[0] == str(crontab)
    assert "line 3    report-full-" in text
    assert "runs  shell.run sh -c '/srv/report --full'" in text
    assert "2 schedules, 0 problems. Nothing was changed. --apply creates them." in text
    assert await stores.parts.log.last_position() == Position(0)


async def test_what_is_applied_is_what_was_shown(run: Run, crontab: Path, client: httpx.AsyncClient) -> None:
    shown = json.loads((await run("crontab", str(crontab), "--json"))[1])["sources"][0]["schedules"]
    status, text = await run("crontab", str(crontab), "--apply", "--queue", "cron")
    assert status == 0
    assert "2 created" in text
    found = await schedules(client)
    assert list(found) == [entry["name"] for entry in reversed(shown)]
    for entry in shown:
        schedule = found[entry["name"]]
        assert (schedule["cron"], schedule["timezone"]) == (entry["request"]["cron"], "Europe/Berlin")
        assert schedule["job"]["args"] == entry["request"]["job"]["args"]
        assert (schedule["job"]["queue"], schedule["job"]["timeout"]) == ("cron", None)
        assert schedule["job"]["retry"]["max_attempts"] == 1
        assert schedule["tags"] == {"imported-from": str(crontab)}
    report, done = (found[entry["name"]] for entry in shown)
    assert report["notes"] == f"Nightly.\nline 3 of {crontab}"
    assert done["job"]["args"] == {"command": ["sh", "-c", "echo 50% done"], "stdin": "in\n"}


async def test_applying_again_changes_nothing(run: Run, crontab: Path, stores: Stores) -> None:
    await run("crontab", str(crontab), "--apply")
    before = await stores.parts.log.last_position()
    crontab.write_text("# A new comment, and lines moved.\n\n" + CRONTAB)
    status, text = await run("crontab", str(crontab), "--apply")
    assert status == 0
    assert text.count("there already") == 2
    assert "0 created" in text
    assert await stores.parts.log.last_position() == before


async def test_a_changed_line_is_another_schedule_and_the_old_one_is_archived_on_request(
    run: Run, crontab: Path, client: httpx.AsyncClient
) -> None:
    await run("crontab", str(crontab), "--apply")
    before = await schedules(client)
    crontab.write_text(CRONTAB.replace("--full", "--short"))
    _, text = await run("crontab", str(crontab), "--apply")
    assert "1 created" in text
    old, kept = (next(name for name in before if word in name) for word in ("full", "echo"))
    assert f"{old}: no line stands for it any more, and it still runs; --prune archives it" in text
    assert len(await schedules(client)) == 3
    answer = json.loads((await run("crontab", str(crontab), "--apply", "--prune", "--json"))[1])
    assert answer["sources"][0]["stale"] == [{"name": old, "result": "archived"}]
    assert (await client.get(f"/v1/schedules/{old}")).json()["state"] == "archived"
    assert {kept} < set(await schedules(client))
    assert len(await schedules(client)) == 2


async def test_two_sources_leave_each_other_alone(
    run: Run, crontab: Path, tmp_path: Path, client: httpx.AsyncClient
) -> None:
    other = tmp_path / "other"
    other.write_text("1 1 * * * echo other\n")
    status, _ = await run("crontab", str(crontab), str(other), "--apply")
    assert status == 0
    crontab.write_text("")
    await run("crontab", str(crontab), "--apply", "--prune")
    assert [schedule["cron"] for schedule in (await schedules(client)).values()] == ["1 1 * * *"]


async def test_nothing_is_created_while_a_line_has_a_problem_unless_told_to(
    run: Run, client: httpx.AsyncClient
) -> None:
    file = str(FIXTURES / "user")
    status, text = await run("crontab", file, "--apply")
    assert status == 1
    assert "line 18   refused: @reboot is no time" in text
    assert "Nothing was changed: some lines have problems. --partial creates the others." in text
    assert await schedules(client) == {}
    status, text = await run("crontab", file, "--apply", "--partial")
    assert status == 1
    assert "7 schedules, 5 problems. 7 created." in text
    assert len(await schedules(client)) == 7


async def test_what_the_store_refuses_is_a_problem_of_its_line(run: Run, tmp_path: Path) -> None:
    workflow = tmp_path / "list.yml"
    workflow.write_text("- 0 6 * * *\n")
    status, text = await run("github", str(workflow), "--task", "not.announced", "--apply")
    assert status == 1
    assert "line 1    refused: " in text
    assert "no executor has announced 'not.announced'" in text


async def test_a_workflow_becomes_schedules_of_a_task(run: Run, client: httpx.AsyncClient) -> None:
    file = str(FIXTURES / "workflow.yml")
    status, text = await run("github", file)
    assert status == 1
    assert "note  say what it runs: --task" in text
    assert (await run("github", file, "--apply"))[0] == 2
    options = ("--task", "noop", "--args", "ref=main", "--apply", "--partial")
    status, text = await run("github", file, *options)
    assert (status, "2 created" in text) == (1, True)
    found = list((await schedules(client)).values())
    assert [(schedule["cron"], schedule["timezone"]) for schedule in reversed(found)] == [
        ("30 5 * * 1,3", "UTC"),
        ("30 5 * * 2,4", "Europe/Berlin"),
    ]
    assert {json.dumps(schedule["job"]["args"]) for schedule in found} == {'{"ref": "main"}'}
    assert "workflow Nightly checks" in found[0]["notes"]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("crontab",), 2),
        (("crontab", "/no/such/file"), 1),
        (("crontab", "a", "b", "--source", "x"), 2),
        (("crontab", "a", "--timezone", "Nowhere"), 2),
        (("github", "a", "--args", "x"), 2),
    ],
)
async def test_wrong_usage_is_told_apart_from_failure(run: Run, command: tuple[str, ...], status: int) -> None:
    assert (await run(*command))[0] == status

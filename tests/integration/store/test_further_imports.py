"""`rota import kubernetes` and its like against a store: created as shown, paused where suspended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from rota_server.apps.cli.main import main
from tests.integration.store.conftest import Stores

FIXTURES = Path(__file__).parents[2] / "fixtures" / "imports"


async def test_what_other_schedulers_run_is_created_once(
    stores: Stores,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("ROTA_URL", (await stores.serve()).url)

    async def run(*command: str) -> tuple[Any, str]:
        def call() -> Any:
            with pytest.raises(SystemExit) as ended:
                main(["import", *command])
            return ended.value.code

        status = await asyncio.to_thread(call)
        return status, capsys.readouterr().out

    manifests = str(FIXTURES / "cronjobs.yaml")
    assert (await run("kubernetes", manifests))[0] == 0
    status, text = await run("kubernetes", manifests, "--apply")
    assert (status, "Nothing was changed" in text) == (1, True)
    status, text = await run("kubernetes", manifests, "--apply", "--partial")
    assert "created, and paused" in text
    assert "1 created" in text
    assert "there already" in (await run("kubernetes", manifests, "--apply", "--partial"))[1]
    status, text = await run("systemd", str(FIXTURES / "backup.timer"), "--apply", "--partial", "--queue", "backups")
    assert (status, "1 created" in text) == (1, True)
    lines = tmp_path / "quartz.txt"
    lines.write_text("noon = 0 0 12 ? * 2-6\n")
    assert (await run("quartz", str(lines)))[0] == 0
    assert "Sunday = 1" in (await run("quartz", str(lines)))[1]
    task = ("--task", "shell.run", "--args", 'command=["true"]')
    status, text = await run("quartz", str(lines), "--apply", *task)
    assert (status, "1 created" in text) == (0, True)
    lines.write_text("rate(5 minutes)\n")
    assert (await run("eventbridge", str(lines), "--apply", *task))[0] == 0
    items = (await client.get("/v1/schedules")).json()["items"]
    found = {(item["state"], str(item.get("cron") or item.get("every"))) for item in items}
    assert found == {
        ("paused", "0 2 1-31/2 * 1"),
        ("active", "['30 2 * * MON,TUE,WED,THU,FRI', '0 4 1 * *']"),
        ("active", "0 12 * * MON,TUE,WED,THU,FRI"),
        ("active", "300.0"),
    }

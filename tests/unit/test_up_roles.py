"""What `rota up` gives each of its processes, and who may read what it keeps."""

from __future__ import annotations

import os
from pathlib import Path

from rota_server.adapters.embedded.directory import DataDirectory
from rota_server.apps.cli.up import Plan, _roles
from rota_server.apps.settings import Settings
from rota_server.apps.supervisor import Role, Supervisor

PLAN = Plan(data_dir=Path(".rota"), host="127.0.0.1", port=3000, executors=2, schedulers=1, tasks=())

URLS: dict[str, dict[str, str]] = {kind: {} for kind in ("store", "relay", "scheduler", "executor")}


def test_each_role_has_a_port_of_its_own_for_its_metrics():
    settings = Settings(_env_file=None, metrics_port=9100)  # type: ignore[call-arg]
    ports = {
        role.name: role.env.get("ROTA_METRICS_PORT") for role in _roles(settings, PLAN, {}, URLS, 3000, Path())[:-1]
    }
    assert ports == {"relay": "9100", "scheduler": "9101", "executor-1": "9102", "executor-2": "9103"}
    assert all(
        "ROTA_METRICS_PORT" not in role.env for role in _roles(Settings(_env_file=None), PLAN, {}, URLS, 3000, Path())
    )  # type: ignore[call-arg]


def test_the_data_folder_and_the_logs_are_for_their_owner_only(tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    with DataDirectory(folder) as directory:
        supervisor = Supervisor([], [Role("sleeper", ["sleep", "60"])], directory.path / "logs")
        try:
            supervisor.start()
            modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
        finally:
            supervisor.stop()
    closed = 0o711 if os.geteuid() == 0 else 0o700
    assert modes == {"data": closed, "logs": closed, "lock": 0o600, "sleeper.log": 0o600}

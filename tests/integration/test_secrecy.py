"""The passwords of a service stay with it: not in what /proc shows of it, not in what its tasks can see."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from rota import Client
from rota_server.apps.cli.up import running_system
from rota_server.apps.executor.account import OWN, task_account
from rota_server.apps.executor.processes.channel import TaskChannel
from rota_server.domain.errors import WrongSetting

PROGRAM = """
import os, sys
from rota_server.apps.secrecy import withdraw_secrets
from rota_server.apps.settings import Settings
settings = withdraw_secrets(Settings(_env_file=None))
environ = open("/proc/self/environ", "rb").read()
assert b"hush" not in environ, environ
assert b"ROTA_LOG_LEVEL=DEBUG" in environ
assert os.environ["ROTA_SECRET_TOKEN"] == "hush-token", "for the one who takes it"
assert not {"ROTA_DATABASE_URL", "ROTA_REDIS_URL", "ROTA_API_TOKENS", "PGPASSWORD"} & set(os.environ)
import subprocess
shown = subprocess.run(["env"], capture_output=True, text=True).stdout
assert "hush-url" not in shown and "hush-pg" not in shown, shown
print(settings.database_url)
sys.stdout.flush()
sys.stdin.read()
"""


def test_what_a_service_was_started_with_is_not_to_be_read_in_proc():
    env = {
        **os.environ,
        "ROTA_DATABASE_URL": "postgresql://rota_app@db/rota",
        "PGPASSWORD": "hush-pg",
        "ROTA_REDIS_URL": "redis://:hush-url@cache/0",
        "ROTA_API_TOKENS": "alice:hush-hush-hush-hush-hush-hush",
        "ROTA_SECRET_TOKEN": "hush-token",
        "ROTA_LOG_LEVEL": "DEBUG",
    }
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "postgresql://rota_app:hush-pg@db:5432/rota" in line, "it has the password itself"
        nobody = pwd.getpwnam("nobody")
        reading = ["cat", f"/proc/{process.pid}/environ"]
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid} if os.geteuid() == 0 else {}
        read = subprocess.run(reading, capture_output=True, check=False, **identity)  # type: ignore[call-overload]
        assert (read.returncode != 0, b"hush" in read.stdout) == (True, False)
        process.communicate()


def test_a_task_finds_no_password_in_its_environment_nor_in_that_of_any_process(tmp_path: Path):
    secret = f"hush-{secrets.token_hex(8)}"
    with running_system(tmp_path / "data", env={"ROTA_SMTP_PASSWORD": secret}) as state, Client(state["url"]) as client:
        words = f"-e {secret} -e {_password(tmp_path / 'data')}"
        look = f"(cat /proc/[0-9]*/environ 2>/dev/null; env) | grep -a -c {words} || true"
        job = client.submit("shell.run", command=["sh", "-c", look])
        assert job.wait(timeout=60).state == "succeeded"
        text = "".join(part["text"] for part in client.call("GET", f"/v1/jobs/{job.id}/logs")["items"])
        assert text.strip() == "0", text


def _password(data: Path) -> str:
    return str(json.loads((data / "embedded.json").read_text())["app_password"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_an_account_for_tasks_has_to_exist_and_to_reach_what_it_runs(tmp_path: Path):
    with pytest.raises(WrongSetting, match="there is no account nowhere"):
        task_account("nowhere")
    assert task_account("root") is OWN
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(WrongSetting, match="nobody cannot reach"):
        task_account("nobody", str(closed / "python"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
async def test_a_task_process_runs_under_the_account_that_it_is_given():
    nobody, said = pwd.getpwnam("nobody"), []
    channel = await TaskChannel.start(
        ["/bin/sh", "-c", "id -u"],
        {"PATH": os.environ["PATH"]},
        identity={"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []},
        received=lambda _: None,
        printed=lambda _, text: said.append(text),
        writable=lambda: None,
    )
    assert await channel.wait() == 0
    assert "".join(said).strip() == str(nobody.pw_uid)

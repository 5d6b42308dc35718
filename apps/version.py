"""The version of this installation, as the package's metadata have it."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("rota-server")

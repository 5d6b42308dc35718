"""Standard output and error of the user's code: text of a task goes to its job's log, other text to the real stream."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any, Iterable, Tuple

from rota.context import current_or_none
from rota.worker.runs import Run


class Output(io.TextIOBase):
    """Stands for sys.stdout or sys.stderr."""

    def __init__(self, stream: str, real: Any) -> None:
        self._stream = stream
        self._real = real
        self.buffer = _Buffer(self)

    def write(self, text: str) -> int:
        """Print, for the current job when there is one."""
        run = current_or_none()
        if not isinstance(run, Run):
            return int(self._real.write(text))
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        run.print(self._stream, text)
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Print bytes that are meant as text."""
        run = current_or_none()
        if isinstance(run, Run):
            run.print_bytes(self._stream, data)
        else:
            self._real.flush()
            self._real.buffer.write(data)
            self._real.buffer.flush()

    def writelines(self, lines: "Iterable[str]") -> None:  # type: ignore[override]  # typeshed has a private type
        """Print the lines as they are."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send what was printed without the end of a line."""
        run = current_or_none()
        if isinstance(run, Run):
            run.flush_output()
        else:
            self._real.flush()

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """It never is."""
        return False

    def fileno(self) -> int:
        """The real stream's: what subprocesses write to."""
        return int(self._real.fileno())

    encoding = "utf-8"
    errors = "replace"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Buffer(io.RawIOBase):
    """`sys.stdout.buffer`: bytes that are meant as text."""

    def __init__(self, text: Output) -> None:
        self._text = text

    def write(self, data: Any) -> int:
        """Print; a character may come in pieces."""
        whole = bytes(data)
        self._text.write_bytes(whole)
        return len(whole)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        if not self.closed:
            self._text.flush()


def replace_streams() -> "Tuple[Any, Any]":
    """Put both streams in place; the real ones."""
    real = sys.stdout, sys.stderr
    for stream in real:
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout, sys.stderr = Output("stdout", real[0]), Output("stderr", real[1])
    return real


def log_by_default() -> None:
    """Logging goes to the job's log from INFO on, unless the user's modules have set logging up themselves."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

"""Loads the user's modules and files, and says which tasks they hold."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List

from rota.tasks import registered

PROTOCOL = 3
ERROR_LIMIT_CHARS = 16_000


def load_all(targets: "List[str]") -> "Dict[str, Any]":
    """Load every target; the content of the hello message. What a target raises stands under `error`."""
    errors = []
    for target in targets:
        try:
            _load(target)
        except BaseException as error:  # noqa: BLE001 - a module may raise anything while it is imported
            tb = error.__traceback__
            while tb is not None and _is_machinery(tb.tb_frame.f_code.co_filename):
                tb = tb.tb_next
            text = "".join(traceback.format_exception(type(error), error, tb))
            errors.append(f"{target} can not be loaded:\n{text}"[-ERROR_LIMIT_CHARS:])
    return {
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "tasks": _catalogue(),
        "error": "\n".join(errors) or None,
    }


def _catalogue() -> "Dict[str, Dict[str, Any]]":
    return {
        name: {
            "options": found.options,
            "parameters": found.parameters(),
            "any_keyword": found.any_keyword(),
            "async": found.is_async,
        }
        for name, found in registered().items()
    }


def _load(target: str) -> None:
    """Import a module by name, or a file by path under its stem's name."""
    if not target.endswith(".py") and os.sep not in target:
        importlib.import_module(target)
        return
    path = Path(target).absolute()
    name = path.stem
    sys.path.insert(0, str(path.parent))
    if getattr(sys.modules.get(name), "__file__", None) == str(path):
        return  # another target has imported it
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    # The user's file may be called as anything, json.py included: what others have imported stays theirs.
    sys.modules.setdefault(name, module)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if sys.modules.get(name) is module:
            del sys.modules[name]
        raise


def _is_machinery(path: str) -> bool:
    return path == __file__ or path.startswith("<frozen importlib") or path == importlib.__file__

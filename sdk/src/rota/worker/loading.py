"""Loads the user's modules and files, and says which tasks they hold."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any, Dict, List

from rota.json_types import parameter_types
from rota.tasks import Task, registered

PROTOCOL = 3
ERROR_LIMIT_CHARS = 16_000
FILES_LIMIT = 2_000


def load_all(targets: "List[str]") -> "Dict[str, Any]":
    """Load every target; the content of the hello message. What a target raises stands under `error`."""
    errors, notices = [], []
    for target in targets:
        try:
            module = _load(target)
            if not _holds_tasks(module):
                notices.append(f"{target} holds no task: decorate a function with @rota.task")
        except BaseException as error:  # noqa: BLE001 - a module may raise anything while it is imported
            tb = error.__traceback__
            while tb is not None and _is_machinery(tb.tb_frame.f_code.co_filename):
                tb = tb.tb_next
            text = "".join(traceback.format_exception(type(error), error, tb))
            errors.append(f"{target} cannot be loaded:\n{text}"[-ERROR_LIMIT_CHARS:] + _hint(target, error))
    if not registered():
        errors, notices = [*errors, *notices], []
    return {
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "tasks": _catalogue(),
        "error": "\n".join(errors) or None,
        "notices": notices,
        "files": _files(),
    }


def _catalogue() -> "Dict[str, Dict[str, Any]]":
    return {
        name: {
            "options": found.defaults if found.alert is None else {**found.defaults, "alert": found.alert},
            "parameters": found.parameters(),
            "types": parameter_types(found.signature.hints),
            "any_keyword": found.any_keyword(),
            "async": found.is_async,
            "cancel_grace": found.cancel_grace,
        }
        for name, found in registered().items()
    }


def _files() -> "List[str]":
    """The files of the user's own modules: what is installed does not change while one works."""
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed = (*(place + os.sep for place in places if place), str(Path(__file__).parents[1]) + os.sep)
    found = []
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if (
            isinstance(file, str)
            and file.endswith(".py")
            and not file.startswith(installed)
            and "-packages" not in file
        ):
            found.append(os.path.abspath(file))  # noqa: PTH100 - as above: few imports
    return sorted(found)[:FILES_LIMIT]


def _holds_tasks(module: Any) -> bool:
    """Whether the module or one that it imports as its own has a task."""
    name = getattr(module, "__name__", "")
    if any(isinstance(value, Task) for value in list(vars(module).values())):
        return True
    homes = {str(found.function.__module__) for found in registered().values()}
    return any(home == name or home.startswith(f"{name}.") for home in homes)


def _hint(target: str, error: BaseException) -> str:
    if not isinstance(error, ImportError) or "relative import" not in str(error) or not target.endswith(".py"):
        return ""
    path = Path(target).absolute()
    folder = path.parent
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    name = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
    return (
        f"Its imports are relative, so it is a module of a package: give {name}, with {folder.parent} as the current "
        "folder or in PYTHONPATH."
    )


def _load(target: str) -> Any:
    """Import a module by name, or a file by path under its stem's name."""
    if not target.endswith(".py") and os.sep not in target:
        return importlib.import_module(target)
    path = Path(target).absolute()
    name = path.stem
    sys.path.insert(0, str(path.parent))
    if getattr(sys.modules.get(name), "__file__", None) == str(path):
        return sys.modules[name]  # another target has imported it
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
    return module


def _is_machinery(path: str) -> bool:
    return path == __file__ or path.startswith("<frozen importlib") or path == importlib.__file__

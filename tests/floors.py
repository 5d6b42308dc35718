"""Counts the rooms of each package and the floors of imports in it: `python -m tests.floors`, or `./dev floors`.

A room is a module or package directly in a package; it stands on a floor above the rooms that it imports. Rooms that
import each other in a circle share a floor, and are named. Imports within functions count, those for types do not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = (
    "domain",
    "adapters/postgres",
    "adapters/redis",
    "apps/store",
    "apps/scheduler",
    "apps/executor",
    "apps/cli",
)
PREFIX = "rota_server"


def imports_of(file: Path) -> Iterator[str]:
    """The full names of modules, or of what is in them, that this file imports when it runs."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test).endswith("TYPE_CHECKING")
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}".removeprefix(f"{PREFIX}.") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix(f"{PREFIX}.") for alias in node.names)


def rooms_of(root: Path, package: str) -> dict[str, set[str]]:
    """Each room of the package with the rooms that it imports."""
    folder = root / package
    rooms: dict[str, set[str]] = {}
    for child in sorted(folder.iterdir()):
        files = [child] if child.suffix == ".py" else sorted(child.rglob("*.py"))
        if child.name == "__init__.py" or not files:
            continue
        rooms[child.stem] = {name for file in files for name in imports_of(file)}
    dotted = package.replace("/", ".") + "."
    inside = {
        room: {name.removeprefix(dotted).partition(".")[0] for name in names if name.startswith(dotted)}
        for room, names in rooms.items()
    }
    return {room: (names & rooms.keys()) - {room} for room, names in inside.items()}


def circles_of(rooms: dict[str, set[str]]) -> list[set[str]]:
    """Rooms that reach each other."""
    reached = {room: _reached(rooms, room) for room in rooms}
    circles: list[set[str]] = []
    for room in rooms:
        circle = {other for other in reached[room] if room in reached[other]}
        if circle and circle not in circles:
            circles.append(circle)
    return circles


def _reached(rooms: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for room in rooms[waiting.pop()]:
            if room not in found:
                found.add(room)
                waiting.append(room)
    return found


def floors_of(rooms: dict[str, set[str]]) -> int:
    """How many floors the rooms stand on; a circle is one room."""
    together = {room: room for room in rooms}
    for circle in circles_of(rooms):
        together.update(dict.fromkeys(circle, min(circle)))
    merged: dict[str, set[str]] = {}
    for room, others in rooms.items():
        merged.setdefault(together[room], set()).update(together[o] for o in others if together[o] != together[room])
    heights: dict[str, int] = {}
    while len(heights) < len(merged):
        for room, others in merged.items():
            if room not in heights and others <= heights.keys():
                heights[room] = 1 + max((heights[other] for other in others), default=0)
    return max(heights.values(), default=0)


def main(root: Path) -> None:
    """Print a line for each package."""
    print("| package | rooms | modules | floors | circles |")
    print("|---|--:|--:|--:|---|")
    for package in PACKAGES:
        rooms = rooms_of(root, package)
        modules = sum(1 for file in (root / package).rglob("*.py") if file.name != "__init__.py")
        circles = "; ".join(", ".join(sorted(circle)) for circle in circles_of(rooms))
        print(f"| `{package}` | {len(rooms)} | {modules} | {floors_of(rooms)} | {circles} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])

"""Graphs of names: an order in which everybody comes after whom he waits for, or the circle that forbids one. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

Graph = Mapping[str, Sequence[str]]
"""For each name, whom it waits for; all of these are names of the graph."""


def in_order(graph: Graph) -> list[str]:
    """All names, each behind those that it waits for; what is on a circle, or behind one, is missing."""
    followers: dict[str, list[str]] = {name: [] for name in graph}
    missing = {name: len(waits_for) for name, waits_for in graph.items()}
    for name, waits_for in graph.items():
        for other in waits_for:
            followers[other].append(name)
    ready = deque(name for name, count in missing.items() if count == 0)
    ordered: list[str] = []
    while ready:
        name = ready.popleft()
        ordered.append(name)
        for follower in followers[name]:
            missing[follower] -= 1
            if missing[follower] == 0:
                ready.append(follower)
    return ordered


def find_circle(graph: Graph) -> list[str] | None:
    """Names of which each waits for the next one and the last one for the first; None when there is no circle."""
    left = dict.fromkeys(graph)
    for name in in_order(graph):
        del left[name]
    if not left:
        return None
    # Whoever is left waits for one that is left: following that leads onto a circle.
    path: dict[str, int] = {}
    name = next(iter(left))
    while name not in path:
        path[name] = len(path)
        name = next(other for other in graph[name] if other in left)
    return list(path)[path[name] :]

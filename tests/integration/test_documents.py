"""Every example in the documents does what its document says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rota import Client
from rota_server.apps.cli.up import running_system
from tests.documents import Reader, documents, examples

ROOT = Path(__file__).parents[2]
WITHOUT_EXAMPLES = {"architecture.md", "glossary.md", "http.md", "operations.md", "servers.md", "settings.md"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("documents")
    for folder in (place, place.parent):
        folder.chmod(0o755)
    env = {"ROTA_QUEUES": "default,mail"}
    with running_system(place / "data", "--tasks", str(ROOT / "examples" / "hello.py"), env=env) as state:
        yield state["url"]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_the_examples_do_what_they_say(path: Path, url: str, tmp_path: Path) -> None:
    with Client(url) as client:
        reader = Reader(url, tmp_path, client)
        for example in examples(path):
            reader.follow(example)
        assert reader.done or path.name in WITHOUT_EXAMPLES, "nothing of this document was run"


def test_there_are_examples_to_follow() -> None:
    assert sum(1 for path in documents() for _ in examples(path)) > 10

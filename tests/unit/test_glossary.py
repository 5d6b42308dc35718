"""The glossary defines the words that documents and commands use, and no other word names the same thing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rota_server.apps.cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ENTRY = re.compile(r"^\*\*([a-z ]+)\*\*: (.+)$", re.MULTILINE)
RETIRED = {
    "brain": "leader",
    "can not": "cannot",
    "for ever": "forever",
    "meter of": "rate limiter of",
    "task worker": "task process",
    "worker process": "task process",
    "outbox relay": "relay",
}
"""Words that once named something, or misspelt ones, and what is said now."""


def entries() -> dict[str, str]:
    return dict(ENTRY.findall((DOCS / "glossary.md").read_text(encoding="utf-8")))


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def help_texts() -> str:
    """What `--help` says of every command."""
    found = [app.help or ""]
    waiting = [app]
    while waiting:
        current = waiting.pop()
        for name in current:
            if name.startswith("-"):
                continue
            command = current[name]
            found.append(f"{name} {command.help or ''}")
            if command.default_command is None:
                waiting.append(command)
            else:
                found.append(command.default_command.__doc__ or "")
    return "\n".join(found)


def words(term: str) -> re.Pattern[str]:
    plural = re.sub(r"y$", "(?:y|ies)", term) if re.search(r"[^aeiou]y$", term) else term + r"(?:s|es)?"
    return re.compile(rf"(?<![\w-]){plural}(?![\w-])", re.IGNORECASE)


def test_entries_are_in_order_and_each_leads_on():
    found = entries()
    assert list(found) == sorted(found)
    assert len(found) >= 25
    for text in found.values():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (DOCS / target).is_file(), target


@pytest.mark.parametrize("term", sorted(entries()))
def test_a_word_of_the_glossary_is_one_that_documents_or_commands_use(term: str):
    others = [page.read_text(encoding="utf-8") for page in pages() if page.name != "glossary.md"]
    used = sum(1 for text in [*others, help_texts()] if words(term).search(text))
    assert used, f"nobody says {term!r}"


@pytest.mark.parametrize("word", sorted(RETIRED))
def test_a_retired_word_is_in_no_document_and_no_help(word: str):
    texts = {page.name: page.read_text(encoding="utf-8") for page in pages()} | {"--help": help_texts()}
    found = [name for name, text in texts.items() if words(word).search(text)]
    assert not found, f"{word!r} stands in {found}; say {RETIRED[word]!r}"


def test_what_commands_are_named_after_is_in_the_glossary():
    terms = entries()
    named = {name for name in app if not name.startswith("-") and app[name].default_command is None}
    singular = {name: re.sub(r"s$", "", name) for name in named}
    plain = {"import", "tokens"}  # what everybody calls so
    missing = {
        name for name, term in singular.items() if not {term, term.removesuffix("e"), name} & terms.keys()
    } - plain
    assert not missing

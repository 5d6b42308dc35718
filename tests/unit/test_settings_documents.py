"""The documents name the settings that exist, all of them, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rota_server.apps.cli.settings_page import settings_page
from rota_server.apps.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
OF_CLIENTS = {"URL", "TOKEN"}
OF_TESTS = {"TEST_SERVERS", "DRILL_JOBS", "DRILL_FAULT_JOBS", "DRILL_FAIR_JOBS", "DRILL_PARTIAL_JOBS"}
"""Of the suite and its drills; CONTRIBUTING.md and the README speak of them."""

OF_COMPOSE = {"POSTGRES_IMAGE", "REDIS_IMAGE", "ZOOKEEPER_IMAGE", "PYTHON_IMAGE"}
"""Of docker-compose.yaml and the Dockerfile."""

OF_SECRETS = {"SECRET_BILLING_TOKEN"}  # the one that the documents name; see apps/executor/secret_sources.py

PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("docs/decisions/*.md"),
    ROOT / ".env.example",
    ROOT / "docker-compose.yaml",
    ROOT / "Dockerfile",
]
NAMED = re.compile(PREFIX + r"([A-Z][A-Z0-9_]*[A-Z0-9])\b")


def test_the_page_of_settings_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page(), "run ./dev docs"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_meaning(name: str) -> None:
    assert Settings.model_fields[name].description


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_only_settings_that_exist(path: Path) -> None:
    known = {name.upper() for name in Settings.model_fields} | OF_CLIENTS | OF_TESTS | OF_COMPOSE | OF_SECRETS
    named = {name.removesuffix("_FILE") for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert named - known == set()

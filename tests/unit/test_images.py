"""The images of docker-compose.yaml and the Dockerfile: each may be named by digest, and the tags are known."""

from __future__ import annotations

import re
from pathlib import Path

from tests.containers import IMAGES

ROOT = Path(__file__).parents[2]


def test_every_base_image_comes_from_a_variable_with_a_tag_as_its_default():
    compose = (ROOT / "docker-compose.yaml").read_text()
    dockerfile = (ROOT / "Dockerfile").read_text()
    images = re.findall(r"^ +image: (.+)$", compose, re.MULTILINE)
    foreign = [image for image in images if image != "rota:local"]
    variables = dict(re.findall(r"\$\{(ROTA_\w+_IMAGE):-([^}]+)\}", compose))
    assert sorted(variables.values()) == sorted(IMAGES)
    assert all(re.fullmatch(r"\$\{ROTA_\w+_IMAGE:-[^}]+\}", image) for image in foreign)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${ROTA_PYTHON_IMAGE}"}
    assert f"ARG ROTA_PYTHON_IMAGE={variables['ROTA_PYTHON_IMAGE']}\n" in dockerfile
    documented = (ROOT / "docs" / "operations.md").read_text()
    assert all(f"{name}={tag}@DIGEST" in documented for name, tag in variables.items())

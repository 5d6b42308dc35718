"""`rota tokens new`: a token that the store takes, kept where only its owner reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rota_server.apps.api_tokens import parse_tokens
from rota_server.apps.cli import tokens
from rota_server.apps.cli.output import Failure


def test_a_new_token_is_one_that_the_store_takes(capsys: pytest.CaptureFixture[str]):
    for name in (None, "ci"):
        assert tokens.new(name) == 0
        (token,) = parse_tokens(capsys.readouterr().out)
        assert token.name == (name or "token")
    with pytest.raises(Failure, match="its name must have"):
        tokens.new("two words")


def test_a_token_in_a_file_is_secret_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "token"
    tokens.new(out=file)
    (token,) = parse_tokens(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    tokens.new(out=file)
    assert parse_tokens(file.read_text()) == (token,)
    assert token.secret not in capsys.readouterr().out

"""An executor refuses to serve what no job can name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rota_server.apps.cli.main import _settings
from rota_server.apps.cli.output import Failure
from rota_server.apps.settings import Settings


@pytest.mark.parametrize("name", ["*", "mail*", "a b", "x" * 101, "grün", "a/b"])
def test_a_queue_that_no_job_can_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is no queue"):
        Settings(queues=name)


def test_the_refusal_is_one_line_that_names_the_setting() -> None:
    with pytest.raises(Failure) as refused:
        _settings(queues=("mail*",))
    assert str(refused.value).startswith("ROTA_QUEUES: 'mail*' is no queue")
    assert "name each queue" in str(refused.value)
    assert refused.value.status == 2


def test_queues_with_every_permitted_sign_are_taken() -> None:
    assert Settings(queues="a.b,c_d,e-f, G9 ").queues == ("a.b", "c_d", "e-f", "G9")

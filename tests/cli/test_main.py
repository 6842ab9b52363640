"""The last stop of what nobody caught: what a person is told, and that it is never more than is true."""

from __future__ import annotations

import pytest

from igmpconf.cli import validate
from igmpconf.cli.main import run

WRONG = "this is a mistake in igmpconf"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "stopped; nothing was changed"),
        (EOFError("no more"), f"EOFError: no more\nhint: {WRONG}"),
        (KeyError("x"), f"KeyError: 'x'\nhint: {WRONG}"),
    ],
    ids=["Ctrl-C", "end of file", "any"],
)
def test_only_who_was_stopped_is_said_to_have_changed_nothing(error, said, monkeypatch, capsys):
    """click takes an EOFError of any connection for the end of a person's input."""

    def fails(*_args, **_keywords):
        raise error

    monkeypatch.setattr(validate.validate, "callback", fails)
    assert run(["validate"]) == 1
    assert said in capsys.readouterr().err


def test_a_mistake_of_ours_has_its_traceback_when_asked_for(monkeypatch, capsys):
    def fails(*_args, **_keywords):
        raise EOFError("no more")

    monkeypatch.setattr(validate.validate, "callback", fails)
    assert run(["--debug", "validate"]) == 1
    assert "in fails" in capsys.readouterr().err

"""Where passwords come from, and the mistakes one can make with that."""

from __future__ import annotations

import os

import click
import pytest

from igmpconf.cli.devices import chosen, device_options
from igmpconf.netconf.target import SshTarget


@pytest.fixture
def ask(place):
    """Runs a command that tells which target it got."""

    def command(*arguments: str) -> SshTarget:
        found = []

        @click.command()
        @device_options
        def tell(device, limit, inventory):
            found.extend(chosen(device, limit, inventory))

        tell.main(["-d", "ssh://admin@r1", *arguments], standalone_mode=False)
        return found[0].target

    return command


def pipe(data: bytes) -> str:
    ours, theirs = os.pipe()
    os.write(theirs, data)
    os.close(theirs)
    return str(ours)


@pytest.mark.parametrize("data", [b"correct horse\n", b"correct horse", b"correct horse\r\n", b"correct horse\nmore\n"])
def test_the_first_line_of_a_descriptor_is_the_password(ask, data):
    number = pipe(data)
    target = ask("--password-fd", number)
    assert target.password.reveal() == "correct horse"
    assert target.passphrase is None
    with pytest.raises(OSError):
        os.fstat(int(number))


def test_both_may_be_given(ask):
    target = ask("--password-fd", pipe(b"a\n"), "--passphrase-fd", pipe(b"b\n"))
    assert (target.password.reveal(), target.passphrase.reveal()) == ("a", "b")


def test_a_prompt_asks_without_echo(ask, monkeypatch):
    asked = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda words, stream: asked.append(words) or "typed")
    assert ask("--ask-pass").password.reveal() == "typed"
    assert ask("--ask-passphrase").passphrase.reveal() == "typed"
    assert asked == ["SSH password: ", "SSH passphrase: "]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda: ["--password-fd", pipe(b"")], "there is nothing on file descriptor"),
        (lambda: ["--password-fd", "999"], "cannot be read"),
        (lambda: ["--ask-pass"], "--password-fd N"),
        (lambda: ["--password-fd", pipe(b"x"), "--ask-pass"], "given twice"),
    ],
)
def test_mistakes_are_usage_errors(ask, arguments, words, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(click.UsageError, match=words):
        ask(*arguments())


def test_a_password_in_an_address_is_refused_without_repeating_it(igmpconf):
    said = igmpconf("show", "groups", "-d", "ssh://admin:horse@r1")
    assert said.code == 3
    assert "--ask-pass" in said.err
    assert "horse" not in said.err

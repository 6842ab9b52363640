"""Passwords and passphrases: typed at a prompt or read from a file descriptor, never from a file of ours, an argument or the environment.

They travel in the target (netconf/target.py), which shows, writes and pickles none of them.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from igmpconf.netconf.target import Secret, SshTarget, Target

F = TypeVar("F", bound=Callable[..., Any])

_META = "igmpconf.secrets"
_MOST_BYTES = 1024


def _asked(words: str) -> Secret:
    if not (sys.stdin.isatty() or sys.stderr.isatty()):
        raise click.UsageError("there is nobody to ask here; give it on a file descriptor: --password-fd N, --passphrase-fd N")
    return Secret(getpass.getpass(words, stream=sys.stderr))


def _read(number: int) -> Secret:
    """The first line that comes from a descriptor, which is closed."""
    data = b""
    try:
        while b"\n" not in data and len(data) < _MOST_BYTES:
            piece = os.read(number, _MOST_BYTES)
            if not piece:
                break
            data += piece
        os.close(number)
    except OSError as error:
        raise click.UsageError(f"file descriptor {number} cannot be read: {error.strerror}") from None
    text = data.partition(b"\n")[0].removesuffix(b"\r").decode("utf-8", "surrogateescape")
    if not text:
        raise click.UsageError(f"there is nothing on file descriptor {number}")
    return Secret(text)


def _keep(ctx: click.Context, param: click.Parameter, value: int | bool | None) -> None:  # noqa: FBT001 - click hands it over so
    if value is None or value is False:
        return
    held: dict[str, Secret] = ctx.meta.setdefault(_META, {})
    what = "password" if param.name is not None and "password" in param.name else "passphrase"
    if what in held:
        raise click.UsageError(f"the {what} is given twice")
    held[what] = _asked(f"SSH {what}: ") if value is True else _read(int(value))


def secret_options(command: F) -> F:
    """Add --ask-password, --password-fd, --ask-passphrase and --passphrase-fd; what they hold is for `with_secrets`."""
    fd = click.IntRange(min=0)
    for option in (
        click.option("--passphrase-fd", type=fd, metavar="N", expose_value=False, callback=_keep, help="The same, from file descriptor N."),
        click.option("--ask-passphrase", is_flag=True, expose_value=False, callback=_keep, help="Ask for the passphrase of encrypted key files."),
        click.option("--password-fd", type=fd, metavar="N", expose_value=False, callback=_keep, help="The same, from file descriptor N."),
        click.option("--ask-pass", "ask_password", is_flag=True, expose_value=False, callback=_keep, help="Ask for the SSH password of the devices."),
    ):
        command = option(command)
    return command


def with_secrets(target: Target) -> Target:
    """The target, knowing what the user typed."""
    context = click.get_current_context(silent=True)
    held: dict[str, Secret] = context.meta.get(_META, {}) if context is not None else {}
    if not held or not isinstance(target, SshTarget):
        return target
    return dataclasses.replace(target, password=held.get("password"), passphrase=held.get("passphrase"))

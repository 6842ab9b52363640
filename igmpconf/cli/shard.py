"""`--shard 2/4`: the second of four shares of the devices, so that a pipeline's jobs divide a fleet without talking to each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_META = "igmpconf.shard"


class _ShardParam(click.ParamType[tuple[int, int]]):
    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(value))
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r} is no share; write 1/4 to 4/4", param, ctx)
        return int(match[1]), int(match[2])


def _keep(ctx: click.Context, _param: click.Parameter, value: tuple[int, int] | None) -> None:
    ctx.meta[_META] = value


def shard_option(command: F) -> F:
    """Add --shard; `share` applies it."""
    words = "Only share I of N of the devices; the shares of all I are all devices, each once."
    return click.option("--shard", type=_ShardParam(), metavar="I/N", expose_value=False, callback=_keep, help=words)(command)


def given() -> tuple[int, int] | None:
    """What the command line says."""
    context = click.get_current_context(silent=True)
    found: tuple[int, int] | None = context.meta.get(_META) if context is not None else None
    return found


def share(devices: Sequence[T]) -> tuple[T, ...]:
    """Every N-th device from the I-th on: neighbours in the inventory go to different shares, which evens them out."""
    shard = given()
    if shard is None:
        return tuple(devices)
    index, count = shard
    return tuple(devices[index - 1 :: count])

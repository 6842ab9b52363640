"""Frozen dataclasses as plain JSON data and back, by their type hints: what a recording is written in.

An entry of a union is `{"ClassName": {...}}`, a dataclass whose class is plain from the hint only its fields.  Fields
that have their default are left out.  Octets are an address where they can be one, else hex; a field called `payload`
is always hex.  Models of model/ are written as the rest of the project writes them (canon.to_plain).
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from typing import Any

from igmpconf.model.canon import from_plain, to_plain

_MODELS = "igmpconf.model."
_SCALARS = (bool, int, str)


@dataclass(frozen=True, slots=True)
class Form:
    """The two directions for one type; `read` raises ValueError, KeyError or TypeError for what does not fit."""

    written: Callable[[Any], Any]
    read: Callable[[Any], Any]


@functools.cache
def form_of(hint: Any) -> Form:
    """The form of a type hint: scalars, octets, tuples, frozen sets, mappings, dataclasses, unions of them.  Raises TypeError."""
    if isinstance(hint, typing.NewType):
        return form_of(hint.__supertype__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return _union(arguments)
    if origin is tuple:
        return _pairs(arguments) if arguments[-1] is not Ellipsis else _series(arguments[0], tuple)
    if origin is frozenset:
        return _series(arguments[0], frozenset)
    if origin is Mapping or origin is dict:
        return Form(lambda value: {name: one if one is None or isinstance(one, _SCALARS) else str(one) for name, one in value.items()}, dict)
    if hint is bytes:
        return Form(octets_written, octets_read)
    if hint in _SCALARS or origin is typing.Literal:
        return Form(_same, _same)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint.__module__.startswith(_MODELS):
            return Form(to_plain, functools.partial(from_plain, hint))
        return _record(hint)
    raise TypeError(f"a recording has no form for {hint}")


def _same(value: Any) -> Any:
    return value


def octets_written(value: bytes) -> str:
    """An address if it has the length of one, else hex."""
    return str(ipaddress.ip_address(value)) if len(value) in {4, 16} else value.hex()


def octets_read(text: str) -> bytes:
    """The opposite of `octets_written`, and hex of any length."""
    return ipaddress.ip_address(text).packed if "." in text or ":" in text else bytes.fromhex(text)


def _series(item: Any, made: Callable[[Any], Any]) -> Form:
    form = form_of(item)
    if made is frozenset:
        return Form(lambda value: sorted(form.written(one) for one in value), lambda plain: frozenset(form.read(one) for one in plain))
    return Form(lambda value: [form.written(one) for one in value], lambda plain: tuple(form.read(one) for one in plain))


def _pairs(items: tuple[Any, ...]) -> Form:
    forms = [form_of(item) for item in items]
    return Form(
        lambda value: [form.written(one) for form, one in zip(forms, value, strict=True)],
        lambda plain: tuple(form.read(one) for form, one in zip(forms, plain, strict=True)),
    )


def _union(arguments: tuple[Any, ...]) -> Form:
    kinds = [argument for argument in arguments if argument is not type(None)]
    if len(kinds) == 1:  # optional
        form = form_of(kinds[0])
        return Form(lambda value: None if value is None else form.written(value), lambda plain: None if plain is None else form.read(plain))
    forms = {kind.__name__: form_of(kind) for kind in kinds}

    def written(value: Any) -> Any:
        name = type(value).__name__
        return {name: forms[name].written(value)}

    def read(plain: Any) -> Any:
        ((name, inner),) = plain.items()
        if name not in forms:
            raise ValueError(f"unknown {name!r}; known are {', '.join(forms)}")
        return forms[name].read(inner)

    return Form(written, read)


def _record(cls: Any) -> Form:
    hints = typing.get_type_hints(cls)
    parts: list[tuple[str, Any, Form]] = []
    for field in dataclasses.fields(cls):
        form = form_of(hints[field.name])
        if field.name == "payload" and hints[field.name] is bytes:
            form = Form(bytes.hex, bytes.fromhex)
        default = field.default
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        parts.append((field.name, default, form))

    def written(value: Any) -> dict[str, Any]:
        plain = {}
        for name, default, form in parts:
            one = getattr(value, name)
            if default is MISSING or one != default:
                plain[name] = form.written(one)
        return plain

    def read(plain: Any) -> Any:
        unknown = plain.keys() - {name for name, _, _ in parts}
        if unknown:
            raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
        return cls(**{name: form.read(plain[name]) for name, _, form in parts if name in plain})

    return Form(written, read)

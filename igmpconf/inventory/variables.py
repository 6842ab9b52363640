"""The variables of one host, as templates and connections see them: what is written as a template is rendered when it is asked for.

As in Ansible a variable may be made of others (`mc_address: "10.{{ site }}.0.1"`), and one that is nothing but an
expression keeps the type of its value.  Known beside the inventory's own: `inventory_hostname`,
`inventory_hostname_short`, `inventory_dir`, `inventory_file`, `group_names`, `groups`, `hostvars`.  Filters are those of
Jinja2; Ansible's own, its lookups and its facts are not there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, Undefined
from jinja2.environment import TemplateExpression
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from igmpconf.errors import InputError
from igmpconf.inventory.yamlfile import Key, Unsafe, Vaulted

_OWNER = "__variables__"  # where a context finds the Variables it belongs to
_ALONE = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)


class _Lazy(Context):
    """Names are rendered when a template asks for them, so that nobody pays, or fails, for those it does not use."""

    def resolve_or_missing(self, key: str) -> Any:
        owner = self.parent.get(_OWNER)
        if isinstance(owner, Variables) and key in owner and key not in self.vars:
            return owner[key]
        return super().resolve_or_missing(key)


class Environment(SandboxedEnvironment):
    """Jinja2's sandbox, in which an unknown variable is an error, never an empty string."""

    context_class = _Lazy

    def __init__(self, **more: Any) -> None:
        super().__init__(undefined=StrictUndefined, keep_trailing_newline=True, **more)


class Variables(Mapping[str, Any]):
    """What one host's inventory says; `raw` as it is written, items rendered.  Items raise InputError."""

    def __init__(self, host: str, raw: Mapping[str, Any], magic: Mapping[str, Any]) -> None:
        self._host = host
        self._raw = {**raw, **magic}
        self._magic = magic
        self._done: dict[str, Any] = {}
        self._open: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name in self._magic:
            return self._magic[name]
        if name not in self._done:
            if name in self._open:
                way = " > ".join([*self._open[self._open.index(name) :], name])
                raise InputError(f"{self._where(name)}variables of {self._host} are made of each other: {way}", hint="write one of them out")
            value = self._raw[name]
            self._open.append(name)
            try:
                self._done[name] = self._settled(value, name)
            finally:
                self._open.pop()
        return self._done[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def context(self) -> dict[str, Any]:
        """What a template is rendered with."""
        return {**self._raw, _OWNER: self}

    def _settled(self, value: Any, name: str) -> Any:
        if isinstance(value, Vaulted):
            return StrictUndefined(f"{name!r} is in a vault, which igmpconf does not open")
        if isinstance(value, dict):
            return {key: self._settled(one, name) for key, one in value.items()}
        if isinstance(value, list):
            return [self._settled(one, name) for one in value]
        if not isinstance(value, str) or isinstance(value, Unsafe) or not ("{{" in value or "{%" in value):
            return value
        try:
            made = _compiled(value)(self.context())
        except TemplateError as error:
            raise InputError(
                f"{self._where(name)}variable {name} of {self._host}: {error.message or type(error).__name__}", hint="it is written as a template"
            ) from None
        if isinstance(made, Undefined):
            raise InputError(f"{self._where(name)}variable {name} of {self._host}: {made._undefined_message}", hint="it is written as a template")  # noqa: SLF001 - Jinja2 has no other name for it
        return made

    def _where(self, name: str) -> str:
        """`group_vars/all.yaml:3: `, where the name was said last."""
        key = next((key for key in self._raw if key == name), None)
        return f"{key.file}:{key.line}: " if isinstance(key, Key) else ""


class HostVariables(Mapping[str, Variables]):
    """`hostvars`: every host of the inventory, its variables made when somebody asks."""

    def __init__(self, names: Mapping[str, Any], of: Callable[[str], Variables]) -> None:
        self._names = names
        self._of = of

    def __getitem__(self, name: str) -> Variables:
        if name not in self._names:
            raise KeyError(name)
        return self._of(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@functools.cache
def environment(*search: str) -> Environment:
    """One environment for all templates that are found below the same directories."""
    return Environment(loader=FileSystemLoader(search) if search else None)


@functools.lru_cache(maxsize=4096)
def _compiled(text: str) -> Callable[[dict[str, Any]], Any]:
    alone = _ALONE.fullmatch(text.strip())
    if alone is None:
        return environment().from_string(text).render
    environment().parse(text)  # tells a mistake in better words than the next line
    expression: TemplateExpression = environment().compile_expression(alone[1].strip(), undefined_to_none=False)
    return expression

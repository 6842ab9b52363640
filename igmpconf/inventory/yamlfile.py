"""One YAML file of an inventory: what Ansible reads, with the line of every key, and a key twice is a mistake.

Secrets stay closed: a value tagged `!vault`, or a file that is one vault, is known to be there and has no content.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from igmpconf.errors import InputError

_VAULT_FILE = "$ANSIBLE_VAULT;"


class Key(str):
    """A key of a mapping that knows where it was written: `file` and `line` (from 1)."""

    __slots__ = ("file", "line")

    file: Path
    line: int


class Unsafe(str):
    """Text tagged `!unsafe`: braces in it are no template."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Vaulted:
    """A value that only who knows the vault's password could read; we never do."""


class _Loader(yaml.SafeLoader):
    file: Path


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key: Any = loader.construct_object(key_node, deep=True)
        if isinstance(key, str):
            key = Key(key)
            key.file, key.line = loader.file, key_node.start_mark.line + 1
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"the key {str(key)!r} is there twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


def _unsafe(loader: _Loader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return Unsafe(loader.construct_scalar(node))
    raise yaml.constructor.ConstructorError(None, None, "!unsafe stands before something that is not text", node.start_mark)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("!unsafe", _unsafe)
for _tag in ("!vault", "!vault-encrypted"):
    _Loader.add_constructor(_tag, lambda _loader, _node: Vaulted())


def read_yaml(path: Path) -> Any:
    """One YAML document of an inventory; `Vaulted()` for a file that is one vault.  Raises InputError with file, line and column."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> Any:
    """The same of a text that is, or may become, the file `path`.  Raises InputError with file, line and column."""
    if text.startswith(_VAULT_FILE):
        return Vaulted()
    loader = _Loader(text)
    loader.file = path
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise InputError(f"{path}{where}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {error}") from None
    finally:
        loader.dispose()

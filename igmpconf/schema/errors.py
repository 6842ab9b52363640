"""What is wrong with configuration data that arrived as XML, in the words of NETCONF.

One complaint, the first one found: RFC 6241 lets a server report several, clients look at the first.  The tags are
those of RFC 6241 appendix A and RFC 7950 8.3.1 and 15; whoever owns the session writes the `<rpc-error>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from igmpconf.errors import IgmpconfError
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Node, node
from igmpconf.model.path import Path
from igmpconf.schema.names import PREFIX, prefix_of

ErrorType = Literal["application", "protocol"]


class DataError(IgmpconfError):
    """One `<rpc-error>`: `path` is the error-path as XPath with prefix `ic:`, `info` the children of error-info."""

    def __init__(
        self,
        tag: str,
        message: str,
        *,
        error_type: ErrorType = "application",
        app_tag: str | None = None,
        path: str | None = None,
        info: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.error_type: ErrorType = error_type
        self.tag = tag
        self.app_tag = app_tag
        self.path = path
        self.message = message
        self.info: dict[str, str] = dict(info or {})


def xpath(path: Path) -> str:
    """Absolute XPath of a place in the configuration: `/ic:igmp-proxy[ic:name='default']/ic:enabled`; `/` is the whole.

    Steps that the model does not know are written without predicates.
    """
    out: list[str] = []
    cls: type | None = DeviceConfig
    for step in path:
        found = node(cls, step.name) if cls is not None else None
        names = found.key if found is not None and found.kind == "list" else ()
        out.append(xpath_step(step.name, tuple(zip(names, step.key, strict=False))))
        cls = found.cls if found is not None else None
    return "".join(out) or "/"


def xpath_step(name: str, keys: tuple[tuple[str, str], ...] = (), prefix: str = PREFIX) -> str:
    """`/ic:name[ic:key='value']`, quoted so that any value survives."""
    return f"/{prefix}:{name}" + "".join(f"[{prefix}:{key}={quoted(value)}]" for key, value in keys)


def node_step(n: Node, keys: tuple[tuple[str, str], ...] = ()) -> str:
    """As `xpath_step`, with the prefix of the node's module."""
    return xpath_step(n.name, keys, prefix_of(n.module))


def quoted(value: str) -> str:
    """`value` as a string of XPath 1.0."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    return "concat(" + ', "\'", '.join(f"'{part}'" for part in value.split("'")) + ")"  # XPath 1.0 has no escapes

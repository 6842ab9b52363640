"""The YANG modules whose texts are ours: what `<get-schema>` returns of them and the hello names (RFC 6022, RFC 7950 5.6.4)."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from igmpconf.schema.names import REVISION
from igmpconf.schema.yang import module_text, netconf_module_text
from igmpconf.schema.yang_events import event_modules

OURS = "urn:igmpconf:yang:igmpconf"
OUR_NETCONF = "urn:igmpconf:yang:igmpconf-netconf"


@dataclass(frozen=True, slots=True)
class YangModule:
    name: str
    revision: str
    namespace: str
    text: str

    @property
    def capability(self) -> str:
        return f"{self.namespace}?module={self.name}&revision={self.revision}"


@functools.cache
def modules() -> tuple[YangModule, ...]:
    """Every module with a text of ours."""
    return tuple(_read(text) for text in (module_text(), netconf_module_text(), *event_modules(REVISION)))


def _read(text: str) -> YangModule:
    found = []
    for pattern in (r"^\s*module\s+\"?([\w.-]+)", r"^\s*revision\s+\"?([0-9-]{10})", r"^\s*namespace\s+\"([^\"]+)"):
        match = re.search(pattern, text, re.MULTILINE)
        assert match is not None, f"a YANG module without {pattern}"
        found.append(match[1])
    name, revision, namespace = found
    return YangModule(name, revision, namespace, text)

"""The YANG modules that the agent serves: what `<get-schema>` returns and the hello names (RFC 6022, RFC 7950 5.6.4).

Only modules whose text is carried are listed; whoever needs the IETF modules that these import has them.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from igmpconf.schema.yang import module_text

OURS = "urn:igmpconf:yang:igmpconf"
OUR_NETCONF = "urn:igmpconf:yang:igmpconf-netconf"

_NETCONF_MODULE = """module igmpconf-netconf {
  yang-version 1.1;
  namespace "urn:igmpconf:yang:igmpconf-netconf";
  prefix ign;

  import ietf-netconf {
    prefix nc;
    reference "RFC 6241";
  }

  organization "igmpconf";
  description "What igmpconf adds to the operations of NETCONF.";

  revision 2026-11-25 {
    description "First version.";
  }

  augment "/nc:commit/nc:input" {
    description "Who asks why: both are kept with the commit in the history.";
    leaf plan {
      type string {
        length "1..255";
        pattern '[^\\n\\r\\t]*';
      }
      description
        "Identity of the plan that is applied.  When it is the plan of the last commit, and nothing changed since, the
         operation succeeds without doing anything.";
    }
    leaf comment {
      type string {
        length "0..255";
        pattern '[^\\n\\r\\t]*';
      }
      description "What the change is for.";
    }
  }
}
"""


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
    """Every module that can be fetched."""
    return tuple(_read(text) for text in (module_text(), _NETCONF_MODULE))


def _read(text: str) -> YangModule:
    found = []
    for pattern in (r"^\s*module\s+\"?([\w.-]+)", r"^\s*revision\s+\"?([0-9-]{10})", r"^\s*namespace\s+\"([^\"]+)"):
        match = re.search(pattern, text, re.MULTILINE)
        assert match is not None, f"a YANG module without {pattern}"
        found.append(match[1])
    name, revision, namespace = found
    return YangModule(name, revision, namespace, text)

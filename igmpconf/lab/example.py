"""The desired state that fits the lab's router, and a copy with mistakes in it.

`examples/home.yaml` and the README show the same text; a test compares them.
"""

from __future__ import annotations

HOME = """\
# yaml-language-server: $schema=../schemas/igmpconf.schema.json
igmp-proxy:
  - name: default
    interfaces:
      - {interface: wan, upstream: yes}
      - interface: lan0
        query-interval: 31.25s
      - interface: lan1
"""

BROKEN = """\
igmp-proxy:
  - name: default
    interfaces:
      - {interface: wan, upstream: yes}
      - interface: lan0
        querry-interval: 31.25s
        robustness: 300
      - {interface: lan1, upstream: yes}
"""
BROKEN_LINES = (6, 7, 8)  # where a complaint belongs: an unknown key, a value out of range, a second upstream

# The upstream's name mistyped: nothing a schema could see, but no such interface ever comes up.
WRONG_UPSTREAM = HOME.replace("interface: wan,", "interface: wan9,")

# A harmless change, to be left unconfirmed.
SLOWER_QUERIES = HOME.replace("31.25s", "60s")

"""Every leaf and every code has its text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import igmpconf
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import nodes
from igmpconf.schema.explain import CODES, explained, nearest

ROOMS = [Path(igmpconf.__path__[0]) / name for name in ("schema", "model/canon.py", "plan/fleet.py")]


def test_every_code_that_is_raised_is_explained_and_the_other_way_round():
    sources = [path for room in ROOMS for path in ([room] if room.is_file() else room.glob("*.py")) if path.name != "explain.py"]
    used = {
        code
        for path in sources
        for code in re.findall(
            r'"((?:file|yaml|key|type|value|schema|list|limit|upstream|interface|querier|mfc|group|groups|family|address|static|bridge|vlan|firewall|threshold|version|fleet)/[a-z0-9-]+)"',
            path.read_text(encoding="utf-8"),
        )
    }
    assert used - {"upstream/one"} == set(CODES)  # upstream/one is YANG's must, which cannot tell none from several


def test_every_leaf_is_explained():
    def walk(cls):
        for n in nodes(cls):
            yield n.name
            if n.cls is not None:
                yield from walk(n.cls)

    for name in walk(DeviceConfig):
        text = explained(name)
        assert text is not None
        assert "type:" in text


def test_a_leaf_at_two_places_is_explained_at_both():
    text = explained("query-interval")
    assert text == (
        "igmp-proxy/query-interval\n"
        "    Default of the interfaces.\n"
        "    type:    a duration 1s..8h49m4s\n"
        "    default: 2m5s\n"
        "    see:     RFC 3376 8.2\n"
        "\n"
        "igmp-proxy/interfaces/query-interval\n"
        "    Between general queries.\n"
        "    type:    a duration 1s..8h49m4s\n"
        "    default: as the instance says\n"
        "    see:     RFC 3376 8.2\n"
    )
    assert explained("interfaces/query-interval") == text[text.index("igmp-proxy/interfaces") :]


def test_a_code_and_what_is_neither():
    assert explained("upstream/none").startswith("upstream/none\n    An enabled instance has no upstream")
    assert explained("nonsense") is None


@pytest.mark.parametrize(("word", "near"), [("query-intervall", "query-interval"), ("upstream/non", "upstream/none")])
def test_the_nearest_words(word, near):
    assert nearest(word)[0] == near

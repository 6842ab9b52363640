"""What docs/importing.md says a configuration becomes is what it becomes, and the commands that it names exist."""

from __future__ import annotations

import re

import pytest

from igmpconf.apply.rows import VIEWS
from igmpconf.cli.import_ import READERS
from igmpconf.cli.main import cli
from igmpconf.schema.load import dump
from tests.docs.claims import ROOT
from tests.kit.conformance import covers

PAGE = (ROOT / "docs" / "importing.md").read_text()
_PAIR = re.compile(r"^```([a-z]+)\n(.*?)^```\n\n^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAIRS = {kind: (before, after) for kind, before, after in _PAIR.findall(PAGE)}


def test_every_kind_has_its_example():
    assert set(PAIRS) == set(READERS)


@covers("R040", "R043", "R044", "R045", "R048", "R050", "R052", "R055", "R056", aspects=("desired",))
@pytest.mark.parametrize("kind", list(PAIRS))
def test_the_example_becomes_what_the_page_says(kind):
    before, after = PAIRS[kind]
    assert dump(READERS[kind](before).config) == after


@covers("R046", "R047", "R049", aspects=("live",))
def test_the_equivalents_are_commands():
    named = re.findall(r"\| `igmpconf ([a-z]+)(?: ([a-z]+))?", PAGE)
    assert len(named) > 4
    for verb, what in named:
        assert verb in cli.list_commands(None)  # type: ignore[arg-type]
        if verb == "show":
            assert what in VIEWS

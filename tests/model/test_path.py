"""Keyed paths are read as they are written, whatever a key holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igmpconf.model.path import Step, parse_path, path_text

KEYS = st.text(st.sampled_from("ab0.*[],\\/:ü "), min_size=1, max_size=6)
STEPS = st.builds(Step, st.sampled_from(["igmp-proxy", "interfaces", "x"]), st.lists(KEYS, max_size=2).map(tuple))


@given(st.lists(STEPS, max_size=4).map(tuple))
def test_a_path_survives_its_text(path):
    assert parse_path(path_text(path)) == path


def test_paths_look_as_documented():
    text = "igmp-proxy[default]/mfc[192.168.100.5,239.255.1.1]/join"
    assert path_text(parse_path(text)) == text
    assert parse_path(text)[1] == Step("mfc", ("192.168.100.5", "239.255.1.1"))
    assert str(Step("interfaces", ("eth[0-9]",))) == r"interfaces[eth\[0-9\]]"
    assert path_text(()) == "/"


@pytest.mark.parametrize("text", ["a//b", "a[b", "/a", "a[b]c", "a/"])
def test_what_is_no_path(text):
    with pytest.raises(ValueError, match="not a path step"):
        parse_path(text)

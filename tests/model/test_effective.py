"""What applies where nothing is said, and which names two patterns share."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igmpconf.model.config import InterfaceConfig, ProxyConfig
from igmpconf.model.effective import belongs, effective, interface_for, is_named, overlap

LAN = InterfaceConfig(interface="lan0")


def proxy(lan=LAN, wan=None, **values):
    return ProxyConfig(name="p", interfaces=(lan, wan or InterfaceConfig(interface="wan", upstream=True)), **values)


def test_the_nearest_word_counts():
    own = InterfaceConfig(interface="lan0", robustness=5)
    wan = InterfaceConfig(interface="wan", upstream=True, robustness=7)
    assert effective(proxy(own, wan, robustness=6), own, "robustness") == 5
    assert effective(proxy(LAN, wan, robustness=6), LAN, "robustness") == 6
    assert effective(proxy(LAN, wan), LAN, "robustness") == 7
    assert effective(proxy(LAN), LAN, "robustness") == 2
    assert effective(proxy(LAN, wan), None, "robustness") == 7


def test_what_is_not_inherited_has_its_own_default():
    assert effective(proxy(enabled=False), LAN, "enabled") is True
    assert effective(proxy(), LAN, "max-groups") is None
    assert effective(proxy(), LAN, "threshold") == 1
    assert effective(proxy(), None, "family") == ("ipv4",)
    with pytest.raises(KeyError):
        effective(proxy(), LAN, "nonsense")


def test_an_exact_name_wins_then_the_longest_pattern():
    entries = [InterfaceConfig(interface=name) for name in ("p*", "ppp*", "ppp1")]
    mine = ProxyConfig(name="p", interfaces=tuple(entries))
    assert [interface_for(mine, name) for name in ("ppp1", "ppp2", "px", "q")] == [entries[2], entries[1], entries[0], None]


def test_a_name_belongs_to_one_entry_and_rules_take_nothing_from_each_other():
    entries = [InterfaceConfig(interface=name) for name in ("p*", "ppp*", "ppp1")]
    mine = ProxyConfig(name="p", interfaces=tuple(entries))
    assert [[belongs(mine, name, entry) for entry in entries] for name in ("ppp1", "ppp2", "q")] == [[False, False, True], [False, True, False], [False] * 3]
    assert is_named("ppp1", ["p*", "lan0"])
    assert not is_named("ppp1", ["lan0", "ppp"])
    assert is_named("br[0", ["br[0"])


PATTERNS = st.text(st.sampled_from("ab*?"), max_size=5) | st.sampled_from(["[ab]", "[!a]*", "a[b-c]", "[", "[a", "b]"])
NAMES = st.text(st.sampled_from("abc["), max_size=5)


@given(PATTERNS, PATTERNS, NAMES)
def test_a_name_that_both_match_is_an_overlap(a, b, name):
    if fnmatchcase(name, a) and fnmatchcase(name, b):
        assert overlap(a, b)
        assert overlap(b, a)


@pytest.mark.parametrize(("a", "b"), [("a", "b"), ("ppp*", "eth?"), ("?", "??"), ("a*b", "*c"), ("[ab]", "c"), ("[!a]", "a"), ("", "?")])
def test_no_overlap(a, b):
    assert not overlap(a, b)
    assert not overlap(b, a)

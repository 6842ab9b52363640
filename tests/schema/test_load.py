"""The user's files: every complaint once, at its place, all at the same time; and what is read when there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from igmpconf.model.canon import from_plain, to_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.schema import document
from igmpconf.schema.explain import CODES
from igmpconf.schema.load import Echo, dump, load_files, load_text
from tests.kit.desired import sound_configs

GOOD = """\
# yaml-language-server: $schema=./schemas/igmpconf.schema.json
igmp-proxy:
  - name: default
    interfaces:
      - {interface: vlan100-ipTV, upstream: yes}
      - interface: bridge-local
        query-interval: 31.25s
        alternative-subnets: [10.20.0.0/16, 192.168.100.0/24]
    mfc:
      - {source: 192.168.100.5, group: 239.255.1.1, downstream-interface: bridge-local}
vlans:
  - {name: vlan100-ipTV, interface: ether1, vlan-id: 100}
firewall: {manage: yes}
logging: {topics: [igmp-proxy, debug], action: memory}
"""


def load(text):
    return load_text(text.encode() if isinstance(text, str) else text, "f.yaml")


def told(text):
    return [f"{d.line}:{d.column} {d.code} {d.path}" for d in load(text).diagnostics]


def sound(inner):
    """An instance that is right, with `inner` as its further lines."""
    return "igmp-proxy:\n  interfaces: [{interface: wan, upstream: yes}, lan0]\n" + inner


def test_the_example_of_the_readme():
    loaded = load(GOOD)
    assert loaded.diagnostics == ()
    assert loaded.echoes == ()
    assert to_plain(loaded.config)["igmp-proxy"][0]["interfaces"][0] == {
        "interface": "bridge-local",
        "alternative-subnets": ["10.20.0.0/16", "192.168.100.0/24"],
        "query-interval": "31.25s",
    }


# -- one complaint each ------------------------------------------------------------------------------------------------

SYNTAX = ["yaml/syntax"]
CASES = [
    # YAML itself
    ("tab", "igmp-proxy:\n\t- name: x\n", ["2:1 yaml/tab "]),
    ("tab further down", "a:\n  b: 1\n \tc: 2\n", ["3:2 yaml/tab "]),
    ("repeated key", "logging:\n  size: 10\n  size: 20\n", ["3:3 yaml/repeated-key "]),
    ("empty", "", ["1:1 file/empty "]),
    ("only comments", "# nothing\n---\n", ["1:1 file/empty "]),
    ("null", "~\n", ["1:1 file/empty "]),
    ("binary", b"\x7fELF\x02\x01\x00", ["1:7 file/binary "]),
    ("UTF-16", "a: b".encode("utf-16"), ["1:4 file/binary "]),
    ("Latin-1", b"a:\n  b: M\xfcller\n", ["2:7 file/not-utf-8 "]),
    ("control character", "a: b\x07\n", ["1:5 file/control-character "]),
    ("colon", "a: b: c\n", SYNTAX),
    ("bracket", "a: [1, 2\nb: 3\n", SYNTAX),
    ("a bare star", "source: *\n", SYNTAX),
    ("two documents", "vlans: []\n---\nvlans: []\n", ["2:1 yaml/several-documents "]),
    ("python tag", sound("  robustness: !!python/name:os.system 3\n"), ["3:15 yaml/tag "]),
    ("own tag", sound("  robustness: !vault 3\n"), ["3:15 yaml/tag "]),
    ("recursive alias", "a: &a [*a]\n", ["1:4 yaml/recursive "]),
    ("list as key", "? [a]\n: b\n", ["1:3 yaml/key "]),
    ("merge of a scalar", "logging:\n  <<: x\n  size: 10\n", ["2:7 yaml/merge "]),
    # structure
    ("a word", "hello\n", ["1:1 type/mapping /"]),
    ("a list", "- a\n", ["1:1 type/mapping /"]),
    ("unknown at the top", "igmp_proxy: []\n", ["1:1 key/unknown igmp_proxy"]),
    ("unknown key", sound("  qick-leave: yes\n"), ["3:3 key/unknown igmp-proxy[default]/qick-leave"]),
    ("wrong type", sound("  robustness: many\n"), ["3:15 value/invalid igmp-proxy[default]/robustness"]),
    ("out of range", sound("  robustness: 256\n"), ["3:15 value/invalid igmp-proxy[default]/robustness"]),
    ("list for a leaf", sound("  robustness: [2]\n"), ["3:15 type/scalar igmp-proxy[default]/robustness"]),
    ("no value", sound("  robustness:\n"), ["3:3 type/empty igmp-proxy[default]/robustness"]),
    ("in quotes", sound("  robustness: '3'\n"), ["3:15 schema/invalid igmp-proxy[default]/robustness"]),
    ("octal", sound("  robustness: 0255\n"), ["3:15 schema/invalid igmp-proxy[default]/robustness"]),
    ("underscore", "logging:\n  size: 1_000\n", ["2:9 value/invalid logging/size"]),
    ("sexagesimal", sound("  query-interval: 2:05\n"), ["3:19 value/invalid igmp-proxy[default]/query-interval"]),
    ("a date", sound("  query-interval: 2026-11-25\n"), ["3:19 value/invalid igmp-proxy[default]/query-interval"]),
    ("seconds without unit", sound("  query-interval: 31.25\n"), ["3:19 value/invalid igmp-proxy[default]/query-interval"]),
    ("empty list", sound("  family: []\n"), ["3:11 list/empty igmp-proxy[default]/family"]),
    ("missing key", "vlans:\n  - {name: a, vlan-id: 1}\n", ["2:5 key/missing vlans[a]"]),
    ("second entry", "igmp-proxy:\n  interfaces: [{interface: w, upstream: yes}, a, a]\n", ["2:50 key/repeated igmp-proxy[default]/interfaces[a]"]),
    ("both roles", "igmp-proxy:\n  interfaces: [{interface: w, upstream: yes}, w]\n", ["2:47 interface/both-roles igmp-proxy[default]/interfaces[w]"]),
    (
        "33 interfaces",
        "igmp-proxy:\n  interfaces: [{interface: w, upstream: yes}, " + ", ".join(f"i{i}" for i in range(32)) + "]\n",
        ["2:192 limit/too-many igmp-proxy[default]/interfaces[i31]"],
    ),
    # rules
    ("no upstream", "igmp-proxy:\n  interfaces: [a, b]\n", ["2:15 upstream/none igmp-proxy[default]/interfaces"]),
    (
        "two upstreams",
        "igmp-proxy:\n  interfaces:\n    - {interface: a, upstream: yes}\n    - {interface: b, upstream: yes}\n",
        ["4:32 upstream/several igmp-proxy[default]/interfaces[b]/upstream"],
    ),
    ("response too long", sound("  query-response-interval: 3m\n"), ["3:28 querier/response-exceeds-interval igmp-proxy[default]/query-response-interval"]),
    (
        "mfc elsewhere",
        sound("  mfc:\n    group: 239.1.1.1\n    downstream-interface: lan9\n"),
        ["5:27 mfc/unknown-interface igmp-proxy[default]/mfc[*,239.1.1.1]/downstream-interface"],
    ),
    ("a warning", sound("  robustness: 1\n"), ["3:15 querier/robustness-one igmp-proxy[default]/robustness"]),
]


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("loader", [loader for name in ("CSafeLoader", "SafeLoader") if (loader := getattr(yaml, name, None)) is not None])
def test_one_complaint_each(text, expected, loader, monkeypatch):
    monkeypatch.setattr(document, "_LOADER", loader)
    found = told(text)
    if expected == SYNTAX:
        found = [line.split()[1] for line in found]  # the two readers notice at different places
    assert found == expected
    assert all(d.code in CODES for d in load(text).diagnostics)


HINTS = [
    (sound("  qick-leave: yes\n"), "did you mean 'quick-leave'?"),
    (sound("  robustness: '3'\n"), "write 3 without quotes"),
    (sound("  query-interval: 31.25\n"), "write the unit: 31.25s"),
    (sound("  query-interval: 10\n"), "a bare number is centiseconds, so 10 is 100ms; for seconds write 10s"),
    ("source: *\n", "'*' and '&' mean something in YAML: write '*' in quotes"),
    (sound("  local-groups: 239.255.255.250/24\n"), "host bits are set; did you mean 239.255.255.0/24?"),
    (sound("  mfc: {group: 239.1.1.1, downstream-interface: lan1}\n"), "did you mean 'lan0'?"),
    ("igmp-proxy:\n  interfaces: [a, b]\n", "set upstream: yes on one of a, b"),
]


@pytest.mark.parametrize(("text", "hint"), HINTS)
def test_hints(text, hint):
    assert [d.hint for d in load(text).diagnostics] == [hint]


def test_of_two_places_the_one_that_was_written_last_is_shown():
    (found,) = load("igmp-proxy:\n- interfaces:\n  - {interface: b, upstream: yes}\n  - {interface: a, upstream: yes}\n").diagnostics
    assert (found.line, found.path, found.related) == (4, "igmp-proxy[default]/interfaces[a]/upstream", ("igmp-proxy[default]/interfaces[b]/upstream",))
    (found,) = load("vlans:\n- {name: b, interface: e, vlan-id: 1}\n- {name: a, interface: e, vlan-id: 1}\n").diagnostics
    assert (found.line, found.path) == (3, "vlans[a]/vlan-id")


def test_a_repeated_key_and_a_repeated_entry_name_both_lines():
    (key,) = load("logging:\n  size: 10\n  action: memory\n  size: 20\n").diagnostics
    assert (key.line, "line 2" in key.message) == (4, True)
    (entry,) = load("igmp-proxy:\n- interfaces:\n  - {interface: w, upstream: yes}\n  - a\n  - b\n  - a\n").diagnostics
    assert (entry.line, "line 4" in entry.message) == (6, True)


def test_all_complaints_come_at_once_in_the_order_of_the_file():
    text = """\
igmp-proxy:
  - name: default
    qick-leave: yes
    robustness: "3"
    family: []
    query-interval: 2:05
    interfaces:
      - {interface: vlan100, upstream: yes}
      - interface: lan0
        alternative-subnets: [10.20.0.1/16, 300.1.1.1]
      - {interface: vlan100}
      - lan 1
      - {interface: wan2, upstream: on}
    mfc:
      - {source: 192.168.100.5, group: 224.0.0.1, downstream-interface: lan0}
vlans: {name: a, interface: b, vlan-id: 5000}
vlan: [x]
firewall: {manage: maybe}
"""
    found = load(text)
    assert found.config is None
    assert [(d.line, d.code) for d in found.diagnostics] == [
        (3, "key/unknown"),
        (4, "schema/invalid"),
        (5, "list/empty"),
        (6, "value/invalid"),
        (10, "value/invalid"),
        (10, "value/invalid"),
        (11, "interface/both-roles"),
        (12, "value/invalid"),
        (13, "upstream/several"),
        (15, "group/link-local"),
        (16, "value/invalid"),
        (17, "key/unknown"),
        (18, "value/invalid"),
    ]


def test_what_follows_from_an_unreadable_entry_is_not_told():
    assert told("igmp-proxy:\n  interfaces: [{interface: wan, upstrem: yes}, lan0]\n") == ["2:33 key/unknown igmp-proxy[default]/interfaces[wan]/upstrem"]
    assert told(sound("  query-interval: 5x\n  query-response-interval: 3m\n")) == ["3:19 value/invalid igmp-proxy[default]/query-interval"]


def test_an_alias_bomb_is_bounded():
    lines = ["a0: &a0 [" + ",".join(["x"] * 10) + "]"] + [f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 9)]
    assert [d.code for d in load("\n".join(lines)).diagnostics] == ["yaml/too-many-nodes"]


@pytest.mark.parametrize("loader", [yaml.SafeLoader, document._LOADER])
@pytest.mark.parametrize("text", ["[" * 20_000, "- " * 20_000 + "x", "{a: " * 5_000])
def test_deep_nesting_is_bounded(text, loader, monkeypatch):
    monkeypatch.setattr(document, "_LOADER", loader)
    (found,) = load(text).diagnostics
    assert found.code in {"yaml/too-deep", "yaml/syntax"}


def test_a_huge_file_is_bounded():
    assert [d.code for d in load(b"# " + b"x" * document.MAX_BYTES).diagnostics] == ["file/too-big"]


# -- what is read ------------------------------------------------------------------------------------------------------


def plain_of(text):
    loaded = load(text)
    assert loaded.diagnostics == ()
    return to_plain(loaded.config)


def test_words_that_yaml_takes_for_booleans():
    assert [plain_of(sound(f"  quick-leave: {word}\n"))["igmp-proxy"][0]["quick-leave"] for word in ("on", "off", "auto", "yes", "'on'")] == [
        "on",
        "off",
        "auto",
        "on",
        "on",
    ]


def test_anchors_and_merge_keys_work():
    text = "igmp-proxy:\n  interfaces:\n    - &i {interface: a, threshold: 3}\n    - {<<: *i, interface: b, upstream: yes}\n    - {<<: [*i, {max-groups: 5}], interface: c}\n"
    assert [(one["interface"], one["threshold"], one.get("max-groups")) for one in plain_of(text)["igmp-proxy"][0]["interfaces"]] == [
        ("a", 3, None),
        ("b", 3, None),
        ("c", 3, 5),
    ]


def test_a_byte_order_mark_does_no_harm():
    assert plain_of(b"\xef\xbb\xbflogging: {size: 10}\n") == {"logging": {"size": 10}}


def test_an_empty_desired_state_must_be_said():
    assert load("{}").config == DeviceConfig()


def test_durations_that_are_written_otherwise_are_echoed():
    loaded = load(
        "igmp-proxy:\n  query-interval: 3125\n  last-member-interval: 1s\n  interfaces:\n    - {interface: w, upstream: yes}\n    - {interface: l, query-interval: 60s}\n"
    )
    assert loaded.echoes == (
        Echo("igmp-proxy[default]/query-interval", "3125", "31.25s"),
        Echo("igmp-proxy[default]/interfaces[l]/query-interval", "60s", "1m"),
    )


# -- files ---------------------------------------------------------------------------------------------------------------


def test_files_are_laid_over_one_another(tmp_path):
    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text(GOOD + "    # more\n")
    over.write_text(
        "igmp-proxy:\n  interfaces:\n    - {interface: bridge-local, threshold: 4, alternative-subnets: 9.0.0.0/8}\n    - lan7\nlogging: {size: 50}\n"
    )
    loaded = load_files([base, over])
    assert loaded.diagnostics == ()
    plain = to_plain(loaded.config)
    assert plain["igmp-proxy"][0]["interfaces"] == [
        {"interface": "bridge-local", "threshold": 4, "alternative-subnets": ["9.0.0.0/8"], "query-interval": "31.25s"},
        {"interface": "lan7"},
        {"interface": "vlan100-ipTV", "upstream": True},
    ]
    assert plain["logging"] == {"topics": ["debug", "igmp-proxy"], "action": "memory", "size": 50}


def test_rules_of_later_files_are_appended(tmp_path):
    for name, chain in (("a.yaml", "input"), ("b.yaml", "forward")):
        (tmp_path / name).write_text(f"firewall: {{rules: {{chain: {chain}, action: accept}}}}\n")
    loaded = load_files([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert [(rule.sequence, rule.chain) for rule in loaded.config.firewall.rules] == [(1, "input"), (2, "forward")]


def test_complaints_name_the_file_they_are_about(tmp_path):
    (tmp_path / "a.yaml").write_text(sound("  robustness: 1\n"))
    (tmp_path / "b.yaml").write_text("igmp-proxy:\n  interfaces: {interface: lan0, treshold: 5}\n")
    found = load_files([tmp_path / "a.yaml", tmp_path / "b.yaml"]).diagnostics
    assert [(Path(d.file).name, d.line, d.column, d.code) for d in found] == [("a.yaml", 3, 15, "querier/robustness-one"), ("b.yaml", 2, 33, "key/unknown")]
    assert re.fullmatch(
        r".*b\.yaml:2:33: error: igmp-proxy\[default\]/interfaces\[lan0\]/treshold: unknown key 'treshold' \[key/unknown\]\n    hint: did you mean 'threshold'\?",
        found[1].text(),
    )


def test_an_empty_list_of_a_later_file_has_a_place(tmp_path):
    (tmp_path / "a.yaml").write_text("igmp-proxy: {name: default}\n")
    (tmp_path / "b.yaml").write_text("igmp-proxy:\n  interfaces: []\n")
    (found,) = load_files([tmp_path / "a.yaml", tmp_path / "b.yaml"]).diagnostics
    assert (Path(found.file).name, found.line, found.code) == ("b.yaml", 2, "upstream/none")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "site.yaml").write_text("vlans: []\n")
    found = load_files([tmp_path / "sit.yaml", tmp_path])
    assert [(d.code, d.line) for d in found.diagnostics] == [("file/unreadable", None), ("file/missing", None)]
    assert "site.yaml" in found.diagnostics[1].hint


# -- laws ----------------------------------------------------------------------------------------------------------------


@given(sound_configs())
@settings(max_examples=40)
def test_what_is_dumped_loads_again(config):
    text = dump(config)
    loaded = load(text)
    assert [d for d in loaded.diagnostics if d.is_error] == []
    assert loaded.config == config
    assert loaded.echoes == ()
    assert dump(loaded.config) == text


YAMLISH = st.text(st.sampled_from("igmp-proxy:\n {}[],&*!|>'\"#%@`?~0:5\t\x00é"), max_size=60) | st.binary(max_size=40)


@given(YAMLISH)
def test_any_text_loads_or_is_complained_about(text):
    loaded = load(text)
    assert (loaded.config is None) == any(d.is_error for d in loaded.diagnostics)
    assert all(d.code in CODES and d.file == "f.yaml" for d in loaded.diagnostics)


KEYS = st.sampled_from(
    ["igmp-proxy", "interfaces", "interface", "upstream", "mfc", "group", "groups", "name", "vlans", "firewall", "rules", "action", "query-interval", "x"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-1, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["wan", "a b", "239.1.1.1", "10s", "accept", "*", ""])
)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@given(TREES)
@settings(max_examples=200)
def test_any_tree_loads_or_is_complained_about(tree):
    loaded = load(yaml.safe_dump(tree))
    assert (loaded.config is None) == any(d.is_error for d in loaded.diagnostics)
    if loaded.config is not None:
        assert from_plain(DeviceConfig, to_plain(loaded.config)) == loaded.config

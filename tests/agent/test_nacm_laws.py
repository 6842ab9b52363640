"""Access rules against an oracle that knows no shortcut: it asks every rule about every node (RFC 8341 3.4.5)."""

from __future__ import annotations

from ipaddress import ip_network
from xml.etree.ElementTree import Element

from hypothesis import given, settings
from hypothesis import strategies as st

from igmpconf.agent.nacm import Rights
from igmpconf.model.access import OPERATIONS, Access, Rule, RuleList
from igmpconf.model.canon import canonical
from igmpconf.model.config import DeviceConfig, InterfaceConfig, LoggingConfig, ProxyConfig
from igmpconf.model.leaf import Node
from igmpconf.schema.names import NAMESPACE
from igmpconf.schema.xml import by_tag, config_to_xml

OC = f"{{{NAMESPACE}}}"

Place = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]  # (name, keys) from the top; '.' is the value of a leaf-list entry


MEANT: dict[str, tuple[Place, int]] = {}  # what the text of a path says: the place, and the steps whose keys count


def places(elements: list[Element], cls: type = DeviceConfig, above: Place = ()) -> dict[Place, str | None]:
    """Every node that is there, and the text of a leaf."""
    found: dict[Place, str | None] = {}
    for element in elements:
        n: Node = by_tag(cls)[element.tag]
        keys = tuple((name, element.findtext(f"{OC}{name}") or "") for name in n.key)
        if n.kind == "leaf-list":
            keys = ((".", element.text or ""),)
        here = (*above, (n.name, keys))
        found[here] = element.text if n.kind == "leaf" else None
        if n.cls is not None:
            found |= places(list(element), n.cls, here)
    return found


def path_of(place: Place, keeps: int) -> str:
    """As a rule writes it, with the predicates of the steps that `keeps` has a bit for."""
    steps = []
    for i, (name, keys) in enumerate(place):
        predicates = "".join(f"[{'.' if key == '.' else f'igmpconf:{key}'}={quoted(value)}]" for key, value in keys) if keeps >> i & 1 else ""
        steps.append(f"/igmpconf:{name}{predicates}")
    text = "".join(steps) or "/"
    MEANT[text] = place, keeps
    return text


def quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


@st.composite
def rules(draw, known: list[Place]) -> tuple[Rule, ...]:
    drawn = []
    for number in range(draw(st.integers(0, 4))):
        place = draw(st.sampled_from(known or [()]))
        drawn.append(
            Rule(
                name=str(number),
                module_name=draw(st.sampled_from([None, "igmpconf", "ietf-netconf"])),
                path=draw(st.sampled_from([path_of(place, draw(st.integers(0, 2**4 - 1))), path_of(place, -1), None])),
                access_operations=draw(st.sampled_from([None, "*", "read", "create delete", "update", "exec", "create read update delete"])),
                action=draw(st.sampled_from(["permit", "deny"])),
            )
        )
    return tuple(drawn)


def says(rule: Rule, operation: str, place: Place) -> bool:
    operations = OPERATIONS if rule.access_operations in {None, "*"} else (rule.access_operations or "").split()
    if operation not in operations or rule.module_name not in {None, "*", "igmpconf"}:
        return False
    if rule.path in {None, "/"}:
        return True
    wanted, keeps = MEANT[rule.path or ""]
    return len(place) >= len(wanted) and all(name == place[i][0] and (not keeps >> i & 1 or keys == place[i][1]) for i, (name, keys) in enumerate(wanted))


def permitted(access: Access, operation: str, place: Place) -> bool:
    for rule in access.rule_list[0].rule:
        if says(rule, operation, place):
            return rule.action == "permit"
    default = access.read_default or "permit" if operation == "read" else access.write_default or "deny"
    return default == "permit"


SUBNETS = (ip_network("10.0.0.0/8"), ip_network("192.0.2.0/24"))
interfaces = st.lists(
    st.builds(
        InterfaceConfig,
        interface=st.sampled_from(["wan", "lan0", "lan1"]),
        threshold=st.sampled_from([None, 1, 2]),
        alternative_subnets=st.sets(st.sampled_from(SUBNETS)).map(lambda found: tuple(sorted(found))),
    ),
    max_size=3,
    unique_by=lambda one: one.interface,
).map(tuple)
# Few names, so that a rule about one entry has another entry beside it, in the same configuration and in the other one.
small_configs = st.builds(
    DeviceConfig,
    proxies=st.lists(
        st.builds(ProxyConfig, name=st.sampled_from(["a", "b"]), robustness=st.sampled_from([None, 2, 3]), interfaces=interfaces),
        max_size=2,
        unique_by=lambda one: one.name,
    ).map(tuple),
    logging=st.none() | st.builds(LoggingConfig, size=st.sampled_from([None, 10, 20]), action=st.sampled_from([None, "memory"])),
).map(canonical)


@st.composite
def situations(draw) -> tuple[DeviceConfig, DeviceConfig, Access]:
    before, after = draw(small_configs), draw(small_configs)
    known = sorted(places(config_to_xml(before)) | places(config_to_xml(after)), key=str)
    action = st.sampled_from([None, "permit", "deny"])
    access = Access(read_default=draw(action), write_default=draw(action), rule_list=(RuleList(name="x", group=("g",), rule=draw(rules(known))),))
    return before, after, access


@settings(max_examples=150, deadline=None)
@given(situations())
def test_what_is_read_is_what_the_rules_say_of_every_node(situation):
    config, _, access = situation
    data = config_to_xml(config)
    seen = Rights("u", frozenset({"g"}), access).readable(data)
    assert _texts(seen) == _texts_of(data, access)


def _texts(elements: list[Element]) -> list[str]:
    return sorted(f"{one.tag} {one.text}" for top in elements for one in top.iter())


def _texts_of(data: list[Element], access: Access) -> list[str]:
    """The same by the oracle: each node on its own, with all that is above it."""
    found = []

    def walk(element: Element, cls: type, above: Place) -> None:
        n = by_tag(cls)[element.tag]
        keys = tuple((name, element.findtext(f"{OC}{name}") or "") for name in n.key)
        here = (*above, (n.name, ((".", element.text or ""),) if n.kind == "leaf-list" else keys))
        if not permitted(access, "read", here):
            return
        found.append(f"{element.tag} {element.text}")
        if n.cls is not None:
            for child in element:
                walk(child, n.cls, here)

    for one in data:
        walk(one, DeviceConfig, ())
    return sorted(found)


@settings(max_examples=150, deadline=None)
@given(situations())
def test_what_is_written_is_what_the_rules_say_of_every_node_that_differs(situation):
    before, after, access = situation
    old, new = places(config_to_xml(before)), places(config_to_xml(after))
    containers = {n.name for n in by_tag(DeviceConfig).values() if n.kind == "container"}
    differing = [("create", place) for place in new.keys() - old.keys()] + [("delete", place) for place in old.keys() - new.keys()]
    differing += [("update", place) for place in new.keys() & old.keys() if old[place] != new[place]]
    # a container says nothing by itself
    denied = [one for one in differing if one[1][-1][0] not in containers and not permitted(access, *one)]
    refusal = Rights("u", frozenset({"g"}), access).refusal_to_change(before, after)
    assert (refusal is not None) is bool(denied), denied[:3]

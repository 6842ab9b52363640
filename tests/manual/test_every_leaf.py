"""Every leaf of the desired state on a real agent: planned, applied, a second plan empty, rolled back, the first plan again.

What the parameters of the reference manual do to streams is in test_parameters.py; here no leaf may be forgotten.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import nodes
from tests.kit.conformance import covers
from tests.kit.desk import Desk
from tests.manual import test_parameters
from tests.manual.conftest import BASE, base, instance_with

pytestmark = pytest.mark.kernel
RULE = {"action": "deny", "group": ["239.66.0.0/16"], "source": ["192.0.2.0/24"], "interface": ["lan1"]}
STATIC = {"source": "10.1.0.9", "group": "239.5.5.5", "downstream-interface": ["lan0"], "upstream-interface": "lan1", "join": False}
ACCEPT = {
    "chain": "forward",
    "action": "accept",
    "protocol": "udp",
    "in-interface": "wan",
    "out-interface": "lan*",
    "source": "10.1.0.0/24",
    "destination": "239.0.0.0/8",
    "comment": "the picture",
}


def second_instance() -> dict[str, Any]:
    made = copy.deepcopy(BASE)
    made["igmp-proxy"].append({"name": "second", "enabled": False, "interfaces": ["lan9"]})
    return made


LEAVES = {
    "R066 query-interval": instance_with(query_interval=325),
    "query-response-interval": instance_with(query_response_interval="500ms"),
    "last-member-interval": instance_with(last_member_interval="300ms"),
    "robustness": instance_with(robustness=3),
    "quick-leave": instance_with(quick_leave="auto"),
    "R006 family": instance_with(family=["ipv4", "ipv6"]),
    "forward-when-non-querier": instance_with(forward_when_non_querier=True),
    "local-groups": instance_with(local_groups=["239.255.0.0/16"]),
    "R003 ssm-range": instance_with(ssm_range=["232.0.0.0/8", "233.252.0.0/14"]),
    "groups": instance_with(groups=[RULE]),
    "several instances": second_instance(),
    "mld-version": base(lan0={"mld-version": 1}),
    "minimum-version": base(lan0={"minimum-version": 3, "minimum-mld-version": 2}),
    "lite-exclude-filter": base(lan0={"lite-exclude-filter": True}),
    "query-destination": base(lan0={"query-destination": "all-hosts"}),
    "require-router-alert": base(lan0={"require-router-alert": True}),
    "max-sources-per-group": base(lan0={"max-sources-per-group": 5}),
    "groups of an interface": base(lan1={"groups": [RULE]}),
    "static-groups": base(lan0={"static-groups": [{"group": "239.5.5.6", "source": "10.1.0.9"}]}),
    "R048 mfc": instance_with(mfc=[STATIC]),
    "R101 firewall": BASE | {"firewall": {"manage": True, "rules": [ACCEPT]}},
    "R105 logging": BASE | {"logging": {"topics": ["igmp-proxy", "debug", "packet"], "action": "journal", "size": 500}},
}
ELSEWHERE = {
    "igmp-proxy/mode": "tests/topology/test_bridged.py",
    "igmp-proxy/bridge": "tests/topology/test_bridged.py",
    "vlans/name": "tests/manual/test_imports.py",
    "vlans/interface": "tests/manual/test_imports.py",
    "vlans/vlan-id": "tests/manual/test_imports.py",
}


@covers(aspects=("desired", "plan", "apply", "rollback"))
@pytest.mark.parametrize("leaf", list(LEAVES))
def test_a_leaf_goes_all_the_way_and_back(shared_agent, tmp_path, capsys, leaf):
    desk, desired = Desk(shared_agent, tmp_path, capsys.readouterr), LEAVES[leaf]
    if not desk.runs(BASE):
        desk.applies(BASE)
    changes = desk.plans(desired)
    assert changes
    desk.applies(desired)
    assert desk.plans(desired) == []
    desk.back()
    assert desk.plans(desired) == changes


def _leaves(cls: type, above: str = "") -> Iterator[str]:
    for node in nodes(cls):
        path = f"{above}{node.name}"
        if node.kind in {"list", "container"}:
            yield from _leaves(node.cls, f"{path}/")
        else:
            yield path


def _said(plain: Any, above: str = "") -> Iterator[str]:
    """The leaves that a desired state says; a list entry is its key where it is no mapping."""
    for name, value in plain.items():
        path = f"{above}{name}"
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from _said(one, f"{path}/")
            else:
                yield path


def test_no_leaf_is_forgotten():
    said = {path for desired in [*LEAVES.values(), *(line.desired for line in test_parameters.LINES)] for path in _said(desired)}
    by_position = {path for path in _leaves(DeviceConfig) if path.endswith("/sequence")}
    assert set(_leaves(DeviceConfig)) - said - by_position == set(ELSEWHERE)
    assert all((Path(__file__).parents[2] / file).is_file() for file in ELSEWHERE.values())

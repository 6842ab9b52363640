"""One upstream and no other number: said when the file is checked, when a plan is made, and by the device itself."""

from __future__ import annotations

import copy

import pytest

from igmpconf.errors import RpcFailed
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import UnixTarget
from igmpconf.schema.xml import config_to_xml
from tests.kit.conformance import covers
from tests.kit.netns import wait_until
from tests.kit.site import cable, flows
from tests.kit.wire import Member, Source, Tap
from tests.manual.conftest import BASE, base, instance_with

pytestmark = pytest.mark.kernel
G = "239.1.1.1"


@covers("R009", "R075", "R078", aspects=("desired", "plan", "apply"))
@pytest.mark.parametrize(
    ("desired", "code", "words"),
    [
        (base(wan={"upstream": False}), "upstream/none", ["lan0, lan1, wan", "no upstream interface"]),
        (base(lan1={"upstream": True}), "upstream/several", ["2 upstream interfaces", "lan1, wan"]),
    ],
    ids=["none", "two"],
)
def test_none_or_two_upstreams_are_refused_everywhere_and_named(desk, desired, code, words):
    file, before = desk.wants(desired), desk.history()
    for command in (("validate", file), ("plan", "-f", file, "-d", desk.device), ("apply", "-f", file, "-d", desk.device, "--yes")):
        said = desk(*command, code=3)
        assert code in said.err, command
        assert all(word in said.err for word in words), said.err
    with NetconfClient.connect(UnixTarget(device="router", path=str(desk.agent.socket))) as client:
        client.edit(config_to_xml(from_plain(DeviceConfig, desired), with_defaults="explicit"))
        for doing in (client.validate, client.commit):
            with pytest.raises(RpcFailed) as refused:
                doing()
            assert words[-1] in f"{refused.value.message} {refused.value.hint}"
        client.discard()
    assert desk.history() == before


@covers("R009", aspects=("desired", "apply"))
def test_an_instance_that_is_switched_off_needs_no_upstream(desk):
    off = instance_with(enabled=False)
    off["igmp-proxy"][0]["interfaces"] = ["lan0"]
    desk.applies(off)
    assert desk.runs(off)


@covers("R014", "R008", "R065", aspects=("plan", "apply", "live", "rollback"))
def test_a_second_instance_has_a_kernel_table_of_its_own_and_the_first_does_not_notice(site, desk):
    head2, host2 = site.net.namespace("head2"), site.net.namespace("h2")
    cable(site.net, 4, site.router, "wan2", head2, "eth0")
    cable(site.net, 5, site.router, "lan2", host2, "eth0")
    source, source2, tap, tap2 = site.source("10.1.0.2"), Source(site.net, head2, "eth0", "10.4.0.2"), site.tap(site.h0), Tap(site.net, host2, "eth0")
    site.member(site.h0, G).join()
    flows(source, G, tap)
    both = copy.deepcopy(BASE)
    second = both["igmp-proxy"][0] | {"name": "second", "interfaces": [{"interface": "wan2", "upstream": True}, {"interface": "lan2", "threshold": 5}]}
    both["igmp-proxy"].append(second)
    (change,) = desk.plans(both)
    assert (change["action"], change["path"], change["impact"]["level"]) == ("+", "igmp-proxy[second]", "none")
    uptime = next(row["uptime_s"] for row in desk.rows("groups") if row["group"] == G)
    desk.applies(both)
    assert desk.runs(both)
    site.members.append(Member(site.net, host2, "eth0", G))
    site.members[-1].join()
    flows(source2, G, tap2)
    assert {(row["instance"], row["upstream"]): row["downstreams"] for row in desk.mfc(G)} == {("default", "wan"): ["lan0"], ("second", "wan2"): ["lan2"]}
    flows(source, G, tap)
    assert next(row["uptime_s"] for row in desk.rows("groups") if (row["instance"], row["group"]) == ("default", G)) >= uptime
    assert "iif wan2" in site.router.run("ip mrule show")
    desk.back()
    assert desk.runs(BASE)
    wait_until(lambda: "iif wan2" not in site.router.run("ip mrule show"), "its rules are gone")
    flows(source, G, tap)
    for name in ("wan2", "lan2"):
        site.router.run(f"ip link del {name}")

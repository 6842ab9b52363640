"""The reverse path filter on the real kernel: a source without a route back comes through, and all is put back.

10.77.0.5 behind head --- wan [router] lan0 --- h0
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.live import LiveProxy
from tests.kit.netns import sysctl, wait_until
from tests.kit.site import flows, instance

pytestmark = pytest.mark.kernel
G, FAR = "239.8.1.1", "10.77.0.5"
WAN = "net.ipv4.conf.wan.rp_filter"


def _read(name: str) -> int:
    return int(Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").read_text())


@pytest.fixture
def strict(site):
    """The router filters on wan, `all` does not; the head end has an address that the router has no route to."""
    site.head.run(f"ip addr add {FAR}/32 dev eth0")
    sysctl(site.router, "ipv4/conf/all/rp_filter", 0)
    for name in ("wan", "lan0"):
        sysctl(site.router, f"ipv4/conf/{name}/rp_filter", 1)
    yield site
    site.tidy()
    site.head.run(f"ip addr del {FAR}/32 dev eth0")
    for name in ("wan", "lan0", "all"):
        sysctl(site.router, f"ipv4/conf/{name}/rp_filter", 0)


def started(site, tmp_path) -> LiveProxy:
    proxy = LiveProxy(site.net, site.router, state_dir=tmp_path / "state")
    site.proxies.append(proxy)
    proxy.configure({})
    return proxy


def configured(*lans, **leaves) -> dict:
    return {"igmp-proxy": [{"name": "default"} | instance("wan", *(lans or ("lan0", "lan1")), **leaves)]}


def value(site, name: str) -> int:
    return site.router.call(_read, name)


def test_a_source_without_a_route_comes_through_and_the_setting_is_put_back(strict, tmp_path):
    site = strict
    member = site.member(site.h0, G)
    member.join()
    sender, tap = site.source(FAR), site.tap(site.h0)
    proxy = LiveProxy(site.net, site.router)  # the engines alone
    site.proxies.append(proxy)
    proxy.replace(instance("wan", "lan0"))
    wait_until(lambda: G in proxy.told())
    for _ in range(20):
        sender.send(G, b"filtered")
    near = site.source("10.1.0.2")
    flows(near, G, tap)
    assert b"filtered" not in [payload for _, payload in tap.arrivals(G)]
    proxy.stop()
    proxy = started(site, tmp_path)
    proxy.configure(configured())
    assert value(site, "wan") == 0
    assert value(site, "lan0") == 1  # has its own subnet only
    flows(sender, G, tap)
    proxy.configure(configured(enabled=False))
    assert value(site, "wan") == 1


def test_hosts_of_alternative_subnets_and_an_upstream_that_moves(strict, tmp_path):
    site = strict
    proxy = started(site, tmp_path)
    proxy.configure(configured({"interface": "lan0", "alternative-subnets": ["10.20.0.0/16"]}))
    assert (value(site, "wan"), value(site, "lan0")) == (0, 0)
    proxy.configure({"igmp-proxy": [{"name": "default"} | instance("lan0", "wan")]})
    assert (value(site, "wan"), value(site, "lan0")) == (1, 0)
    proxy.configure({})
    assert (value(site, "wan"), value(site, "lan0")) == (1, 1)


def test_a_stricter_all_is_left_alone_and_said(strict, tmp_path):
    site = strict
    sysctl(site.router, "ipv4/conf/all/rp_filter", 1)
    proxy = started(site, tmp_path)
    proxy.configure(configured())
    assert (value(site, "all"), value(site, "wan")) == (1, 2)
    (note,) = proxy.noted("setting/all-is-stricter")
    assert "no route at all are dropped" in note.fields["cause"]
    proxy.configure({})
    assert (value(site, "all"), value(site, "wan")) == (1, 1)


def test_what_is_turned_by_hand_is_seen_and_put_right(strict, tmp_path):
    site = strict
    proxy = started(site, tmp_path)
    proxy.configure(configured())
    sysctl(site.router, "ipv4/conf/wan/rp_filter", 1)
    wait_until(lambda: value(site, "wan") == 0, "put right")
    (note,) = proxy.noted("surroundings/put-right")
    assert (note.fields["name"], note.fields["expected"], note.fields["found"]) == (WAN, "0", "1")
    assert proxy.state().deviations == ()
    proxy.configure({})
    assert value(site, "wan") == 1


def test_after_a_crash_the_old_value_is_still_known(strict, tmp_path):
    site = strict
    proxy = started(site, tmp_path)
    proxy.configure(configured())
    proxy.kill()
    assert value(site, "wan") == 0
    started(site, tmp_path)
    assert value(site, "wan") == 1


def test_an_interface_that_comes_late_gets_its_setting(strict, tmp_path):
    site = strict
    proxy = started(site, tmp_path)
    proxy.configure({"igmp-proxy": [{"name": "default"} | instance("late*", "lan0")]})
    sysctl(site.router, "ipv4/conf/default/rp_filter", 1)
    site.router.run("ip link add late0 type veth peer name other0")
    wait_until(lambda: value(site, "late0") == 0, "the setting")
    proxy.configure({})
    assert value(site, "late0") == 1
    site.router.run("ip link del late0")
    sysctl(site.router, "ipv4/conf/default/rp_filter", 0)


def test_igmp_sysctls_of_the_kernels_own_host_side_do_not_matter(strict, tmp_path):
    site = strict
    for name in ("wan", "lan0"):
        sysctl(site.router, f"ipv4/conf/{name}/force_igmp_version", 2)
    proxy = started(site, tmp_path)
    proxy.configure(configured())
    proxy.ready()
    member = site.member(site.h0, G)
    member.join()
    wait_until(lambda: proxy.groups().get(("lan0", G)), "the membership")
    assert proxy.groups()["lan0", G].version == 3
    assert proxy.told()[G].version == 3
    flows(site.source(FAR), G, site.tap(site.h0))
    for name in ("wan", "lan0"):
        sysctl(site.router, f"ipv4/conf/{name}/force_igmp_version", 0)

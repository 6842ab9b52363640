"""Rules about mode bridged: which bridge, whose ports, and which leaves mean nothing below IP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from igmpconf.model.config import DeviceConfig, ProxyConfig
from igmpconf.model.effective import interface_for, upstream_of
from igmpconf.model.path import Step
from igmpconf.schema.diagnostic import Diagnostic
from igmpconf.schema.finding import error, families_of, instance_path, interface_path, warning


def _bridged(config: DeviceConfig) -> Iterator[tuple[ProxyConfig, str]]:
    return ((proxy, proxy.bridge) for proxy in config.proxies if proxy.mode == "bridged" and proxy.bridge is not None)


def bridge_and_mode(config: DeviceConfig) -> Iterator[Diagnostic]:
    """`bridge` belongs to mode bridged, and the bridge is not one of its own ports."""
    for proxy in config.proxies:
        here = instance_path(proxy.name)
        if proxy.mode == "bridged" and proxy.bridge is None:
            yield error("bridge/missing", (*here, Step("mode")), f"instance {proxy.name} is bridged but names no bridge", "add bridge: with its name")
        if proxy.bridge is not None and proxy.mode != "bridged":
            yield error(
                "bridge/not-bridged",
                (*here, Step("bridge")),
                f"instance {proxy.name} names bridge {proxy.bridge} but is routed",
                "add mode: bridged, or remove bridge; a bridge that is a routed interface stands under interfaces",
            )
    for proxy, bridge in _bridged(config):
        for entry in proxy.interfaces:
            if entry.interface == bridge:
                yield error(
                    "bridge/is-its-own-port",
                    interface_path(proxy.name, bridge),
                    f"{bridge} is the bridge itself; the interfaces of a bridged instance are its ports",
                    "name the ports",
                )


def one_instance_for_a_bridge(config: DeviceConfig) -> Iterator[Diagnostic]:
    """Messages end at the ports of a bridge, so nobody else can hear them there: another bridged instance, or a routed one above it."""
    owners: dict[str, str] = {}
    for proxy, bridge in _bridged(config):
        if proxy.enabled is False:
            continue
        other = owners.setdefault(bridge, proxy.name)
        if other != proxy.name:
            yield error(
                "bridge/in-two-instances",
                (*instance_path(proxy.name), Step("bridge")),
                f"instances {other} and {proxy.name} both work on bridge {bridge}",
                "make them one; family: [ipv4, ipv6] serves both families",
            )
        for routed in config.proxies:
            if routed.enabled is False or routed.mode == "bridged" or not set(families_of(routed)) & set(families_of(proxy)):
                continue
            entry = interface_for(routed, bridge)
            if entry is not None and entry.enabled is not False:
                yield error(
                    "bridge/also-routed",
                    interface_path(routed.name, entry.interface),
                    f"instance {routed.name} would hear no host on {bridge}: their messages end at the ports, where {proxy.name} is bridged",
                    "use another bridge for one of them, or only one of the two modes",
                    [(*instance_path(proxy.name), Step("bridge"))],
                )


def without_meaning(config: DeviceConfig) -> Iterator[Diagnostic]:
    """A bridge looks at no TTL and knows no subnets, and its entries do not say where a stream arrives."""
    for proxy, _ in _bridged(config):
        for entry in proxy.interfaces:
            here = interface_path(proxy.name, entry.interface)
            if entry.threshold is not None and entry.threshold > 1:
                yield error(
                    "bridge/threshold",
                    (*here, Step("threshold")),
                    f"threshold {entry.threshold} cannot be kept on {entry.interface}: a bridge forwards frames whatever their TTL",
                    "remove it, or use mode: routed",
                )
            if entry.alternative_subnets:
                yield error(
                    "bridge/subnets",
                    (*here, Step("alternative-subnets")),
                    f"alternative-subnets means nothing on {entry.interface}: a port has no subnet, hosts of all subnets are heard",
                    "remove it; groups with rules about source says which streams are wanted",
                )
        upstream = upstream_of(proxy)
        for route in proxy.mfc:
            if route.upstream_interface is not None and upstream is not None and route.upstream_interface != upstream.interface:
                yield error(
                    "bridge/arrival",
                    (*instance_path(proxy.name), Step("mfc", (str(route.source), str(route.group))), Step("upstream-interface")),
                    f"an entry of a bridge forwards {route.group} wherever it arrives, it cannot be bound to {route.upstream_interface}",
                    "remove upstream-interface",
                )
        if proxy.forward_when_non_querier is not None:
            yield warning(
                "bridge/forwards-anyway",
                (*instance_path(proxy.name), Step("forward-when-non-querier")),
                "on a bridge every port is forwarded to, whoever is the querier behind it",
                "remove it",
            )


RULES: tuple[Callable[[DeviceConfig], Iterator[Diagnostic]], ...] = (bridge_and_mode, one_instance_for_a_bridge, without_meaning)

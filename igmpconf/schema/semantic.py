"""What types and ranges cannot say: the rules between leaves.

Each rule is a function from the whole configuration to findings; `check` runs them all.  They run on the controller
before a plan is made and on the device before a commit, so they know neither files nor kernels.  The codes are
explained in `explain.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from itertools import combinations

from igmpconf.model.config import MAX_INTERFACES, DeviceConfig, InterfaceConfig, ProxyConfig, default_of
from igmpconf.model.effective import effective, interface_for, is_pattern, overlap, upstream_of
from igmpconf.model.leaf import duration_text
from igmpconf.model.path import Path, Step
from igmpconf.schema import bridge_rules, firewall_rules, group_rules
from igmpconf.schema.diagnostic import Diagnostic
from igmpconf.schema.finding import error, families_of, instance_path, interface_path, warning

Rule = Callable[[DeviceConfig], Iterator[Diagnostic]]


def check(config: DeviceConfig) -> list[Diagnostic]:
    """Every finding of every rule, errors and warnings, in the order of the rules; [] when all is well."""
    return [finding for rule in RULES for finding in rule(config)]


def _active(config: DeviceConfig) -> Iterator[ProxyConfig]:
    return (proxy for proxy in config.proxies if proxy.enabled is not False)


def one_upstream(config: DeviceConfig) -> Iterator[Diagnostic]:
    """RFC 4605 3: a proxy has exactly one upstream interface."""
    for proxy in _active(config):
        names = [entry.interface for entry in proxy.interfaces if entry.upstream]
        here = (*instance_path(proxy.name), Step("interfaces"))
        if not names:
            others = ", ".join(entry.interface for entry in proxy.interfaces)
            hint = f"set upstream: yes on one of {others}" if others else "add the interfaces, one of them with upstream: yes"
            yield error("upstream/none", here, f"instance {proxy.name} has no upstream interface; expected exactly one", hint)
        elif len(names) > 1:
            yield error(
                "upstream/several",
                (*interface_path(proxy.name, names[1]), Step("upstream")),
                f"instance {proxy.name} has {len(names)} upstream interfaces: {', '.join(names)}; expected exactly one",
                "remove upstream: yes from all but one, or use one instance for each",
                [(*interface_path(proxy.name, name), Step("upstream")) for name in names if name != names[1]],
            )


def patterns_within(config: DeviceConfig) -> Iterator[Diagnostic]:
    """An interface has one role: what one entry takes, another must not claim for the other role."""
    for proxy in _active(config):
        for a, b in combinations(proxy.interfaces, 2):
            if a.interface == b.interface or not overlap(a.interface, b.interface):
                continue
            different = bool(a.upstream) != bool(b.upstream)
            if is_pattern(a.interface) and is_pattern(b.interface):
                make, what = (error, "both roles") if different else (warning, "both entries")
                yield make(
                    "interface/both-roles" if different else "interface/two-patterns",
                    interface_path(proxy.name, b.interface),
                    f"{a.interface} and {b.interface} can match the same interface, which would have {what}",
                    "the longer pattern wins; make the patterns narrower, so that no name fits both",
                    [interface_path(proxy.name, a.interface)],
                )
            elif different:
                exact, pattern = (a, b) if is_pattern(b.interface) else (b, a)
                yield warning(
                    "interface/exact-wins",
                    interface_path(proxy.name, exact.interface),
                    f"{exact.interface} also matches {pattern.interface}, which has the other role; the exact name wins",
                    "make the pattern narrower if that is not meant",
                )


def interfaces_between(config: DeviceConfig) -> Iterator[Diagnostic]:
    """Instances that speak the same family have no interface in common: two queriers on one link would be us twice."""
    for a, b in combinations(_active(config), 2):
        if not set(families_of(a)) & set(families_of(b)):
            continue
        theirs = [entry for entry in b.interfaces if entry.enabled is not False]
        patterns = [entry for entry in theirs if is_pattern(entry.interface)]
        exact = {entry.interface: entry for entry in theirs}
        for x in a.interfaces:
            if x.enabled is False:
                continue
            candidates = theirs if is_pattern(x.interface) else [*([exact[x.interface]] if x.interface in exact else []), *patterns]
            for y in candidates:
                if overlap(x.interface, y.interface):
                    same = f"both have {y.interface}" if x.interface == y.interface else f"{x.interface} and {y.interface} can match the same interface"
                    yield error(
                        "interface/in-two-instances",
                        interface_path(b.name, y.interface),
                        f"instances {a.name} and {b.name}: {same}",
                        "an interface belongs to one instance of a family; remove it from one, or make the patterns narrower",
                        [interface_path(a.name, x.interface)],
                    )


def response_below_interval(config: DeviceConfig) -> Iterator[Diagnostic]:
    """RFC 3376 8.3: the query response interval must be less than the query interval."""
    for proxy in config.proxies:
        of_instance = (effective(proxy, None, "query-response-interval"), effective(proxy, None, "query-interval"))
        told = of_instance[0] >= of_instance[1]
        if told:
            yield _response(instance_path(proxy.name), *of_instance, has_own=proxy.query_response_interval_ms is not None)
        for entry in proxy.interfaces:
            pair = (effective(proxy, entry, "query-response-interval"), effective(proxy, entry, "query-interval"))
            if pair[0] >= pair[1] and not (told and pair == of_instance):
                yield _response(interface_path(proxy.name, entry.interface), *pair, has_own=entry.query_response_interval_ms is not None)


def _response(at: Path, response_ms: int, interval_ms: int, *, has_own: bool) -> Diagnostic:
    return error(
        "querier/response-exceeds-interval",
        (*at, Step("query-response-interval" if has_own else "query-interval")),
        f"query-response-interval {duration_text(response_ms)} is not less than query-interval {duration_text(interval_ms)}",
        f"set query-response-interval below {duration_text(interval_ms)}, or query-interval above {duration_text(response_ms)}",
    )


def versions_in_order(config: DeviceConfig) -> Iterator[Diagnostic]:
    """Who does not hear the version that it speaks hears none of the answers."""
    for proxy in config.proxies:
        for entry in proxy.interfaces:
            for leaf in ("version", "mld-version"):
                least, spoken = effective(proxy, entry, f"minimum-{leaf}"), effective(proxy, entry, leaf)
                if least > spoken:
                    yield error(
                        "version/below-minimum",
                        (*interface_path(proxy.name, entry.interface), Step(f"minimum-{leaf}")),
                        f"minimum-{leaf} {least} is above {leaf} {spoken}, so that what hosts and routers of {leaf} {spoken} say would not be heard",
                        f"set minimum-{leaf} to {spoken} or less, or {leaf} to {least}",
                        [(*interface_path(proxy.name, entry.interface), Step(leaf))],
                    )


def robustness_of_one(config: DeviceConfig) -> Iterator[Diagnostic]:
    """RFC 3376 8.1: the robustness variable should not be one."""
    for proxy in config.proxies:
        places = [(instance_path(proxy.name), proxy.robustness)] + [(interface_path(proxy.name, i.interface), i.robustness) for i in proxy.interfaces]
        for path, value in places:
            if value == 1:
                yield warning(
                    "querier/robustness-one",
                    (*path, Step("robustness")),
                    "with robustness 1 a single lost packet ends a stream or delays a join (RFC 3376 8.1)",
                    "use 2 unless the links lose nothing",
                )


def timers_on_the_upstream(config: DeviceConfig) -> Iterator[Diagnostic]:
    """Nobody queries upstream; what is set there counts for the downstreams."""
    for proxy in config.proxies:
        upstream = upstream_of(proxy)
        if upstream is None or upstream.query_interval_ms is None:
            continue
        used = proxy.query_interval_ms is None
        yield warning(
            "querier/interval-on-upstream",
            (*interface_path(proxy.name, upstream.interface), Step("query-interval")),
            f"a proxy does not query its upstream; {duration_text(upstream.query_interval_ms)} "
            + ("is taken as the default of the other interfaces" if used else "has no effect, the instance has its own query-interval"),
            "write query-interval on the instance" if used else "remove it",
        )


def threshold_of_ipv6(config: DeviceConfig) -> Iterator[Diagnostic]:
    """The kernel's IPv6 entries have no TTL threshold (linux/mroute6.h: mf6cctl has none where mfcctl has mfcc_ttls)."""
    for proxy in config.proxies:
        families = families_of(proxy)
        if "ipv6" not in families:
            continue
        for entry in proxy.interfaces:
            if entry.threshold is None or entry.threshold == default_of(InterfaceConfig, "threshold"):
                continue
            yield warning(
                "threshold/no-effect-on-ipv6",
                (*interface_path(proxy.name, entry.interface), Step("threshold")),
                "IPv6 streams are forwarded whatever their hop limit: the kernel's IPv6 entries have no threshold"
                + ("; it counts for IPv4 only" if "ipv4" in families else ""),
                "keep groups of IPv6 off an interface with groups: rules" if "ipv4" in families else "remove threshold, and use groups: rules instead",
            )


def not_too_many(config: DeviceConfig) -> Iterator[Diagnostic]:
    """The kernel's tables have 32 interfaces each (MAXVIFS of linux/mroute.h, MAXMIFS of linux/mroute6.h)."""
    for proxy in config.proxies:
        if len(proxy.interfaces) > MAX_INTERFACES:
            yield error(
                "limit/too-many",
                (*instance_path(proxy.name), Step("interfaces")),
                f"interfaces has {len(proxy.interfaces)} entries, the limit is {MAX_INTERFACES}",
                "the kernel keeps 32 multicast interfaces per table (MAXVIFS); use a second instance for more",
            )


def static_routes(config: DeviceConfig) -> Iterator[Diagnostic]:
    """A permanent entry arrives on one interface of its instance and leaves by others."""
    for proxy in _active(config):
        upstream = upstream_of(proxy)
        for route in proxy.mfc:
            here = (*instance_path(proxy.name), Step("mfc", (str(route.source), str(route.group))))
            if not route.downstream_interface:
                yield error(
                    "mfc/no-downstream",
                    here,
                    f"the entry for {route.group} forwards nowhere",
                    "add downstream-interface: with one or more interfaces of the instance",
                )
            named = [(name, "downstream-interface") for name in route.downstream_interface]
            if route.upstream_interface is not None:
                named.append((route.upstream_interface, "upstream-interface"))
            for name, leaf in named:
                yield from _known(proxy, name, (*here, Step(leaf)))
            arrives = route.upstream_interface or (upstream.interface if upstream is not None else None)
            if arrives is not None and arrives in route.downstream_interface:
                yield error(
                    "mfc/loop",
                    (*here, Step("downstream-interface")),
                    f"{arrives} is where {route.group} arrives, it cannot be forwarded there",
                    "remove it from downstream-interface, or name another upstream-interface",
                )


def _known(proxy: ProxyConfig, name: str, path: Path) -> Iterator[Diagnostic]:
    entry = interface_for(proxy, name)
    names = [other.interface for other in proxy.interfaces]
    if entry is None:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"add it to interfaces, or use one of {', '.join(names) or '(none yet)'}"
        yield error("mfc/unknown-interface", path, f"instance {proxy.name} has no interface {name}", hint)
    elif entry.enabled is False:
        yield warning("mfc/disabled-interface", path, f"{name} is disabled, nothing passes through it", "enable it, or remove it here")


def vlans(config: DeviceConfig) -> Iterator[Diagnostic]:
    """A VLAN id exists once per parent, and no VLAN stands on itself."""
    parents = {vlan.name: vlan.interface for vlan in config.vlans}
    seen: dict[tuple[str, int], str] = {}
    for vlan in config.vlans:
        here: Path = (Step("vlans", (vlan.name,)),)
        other = seen.setdefault((vlan.interface, vlan.vlan_id), vlan.name)
        if other != vlan.name:
            yield error(
                "vlan/repeated",
                (*here, Step("vlan-id")),
                f"{other} and {vlan.name} are both VLAN {vlan.vlan_id} of {vlan.interface}",
                "remove one, or give it another vlan-id",
                [(Step("vlans", (other,)), Step("vlan-id"))],
            )
        walked = [vlan.name]
        while (parent := parents.get(walked[-1])) is not None and parent not in walked:
            walked.append(parent)
        if parent == vlan.name:
            chain = " on ".join([*walked, vlan.name])
            yield error(
                "vlan/cycle", (*here, Step("interface")), f"{vlan.name} stands on itself: {chain}", "the parent is the interface that carries the tagged frames"
            )


RULES: tuple[Rule, ...] = (
    one_upstream,
    patterns_within,
    interfaces_between,
    response_below_interval,
    versions_in_order,
    robustness_of_one,
    timers_on_the_upstream,
    threshold_of_ipv6,
    not_too_many,
    static_routes,
    *group_rules.RULES,
    *bridge_rules.RULES,
    vlans,
    *firewall_rules.RULES,
)

# Findings that something is absent or wrong in sum: they may follow from an entry that could not be read, so whoever
# knows of such an entry (`load.py`) leaves them out for its instance.
FOLLOWING = frozenset({"upstream/none", "mfc/unknown-interface", "mfc/no-downstream", "bridge/missing", "bridge/not-bridged", "groups/unknown-interface"})

"""Rules about packet filter rules: combinations that nftables would refuse or that match nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from igmpconf.model.config import DeviceConfig
from igmpconf.model.path import Path, Step
from igmpconf.schema.diagnostic import Diagnostic
from igmpconf.schema.finding import error

_VERSION_OF = {"igmp": 4, "icmpv6": 6}


def combinations_match_something(config: DeviceConfig) -> Iterator[Diagnostic]:
    """A rule says nothing that excludes itself."""
    for rule in config.firewall.rules if config.firewall is not None else ():
        here: Path = (Step("firewall"), Step("rules", (str(rule.sequence),)))
        if rule.chain == "input" and rule.out_interface is not None:
            yield error(
                "firewall/out-interface-on-input",
                (*here, Step("out-interface")),
                "packets for this device leave by no interface: out-interface needs chain forward",
                "use in-interface, or chain: forward",
            )
        if rule.source is not None and rule.destination is not None and rule.source.version != rule.destination.version:
            yield error(
                "firewall/two-families",
                (*here, Step("destination")),
                f"source {rule.source} and destination {rule.destination} are of different families",
                "write one rule for each family",
            )
        version = _VERSION_OF.get(rule.protocol or "")
        for name, prefix in (("source", rule.source), ("destination", rule.destination)):
            if version is not None and prefix is not None and prefix.version != version:
                yield error(
                    "firewall/protocol-of-other-family",
                    (*here, Step(name)),
                    f"{rule.protocol} is IPv{version}, {prefix} is not",
                    "use the addresses of that family, or protocol " + ("icmpv6" if version == 4 else "igmp"),
                )
        if rule.source is not None and rule.source.is_multicast:
            yield error("firewall/multicast-source", (*here, Step("source")), f"no packet comes from a group: {rule.source}", "did you mean destination?")


RULES: tuple[Callable[[DeviceConfig], Iterator[Diagnostic]], ...] = (combinations_match_something,)

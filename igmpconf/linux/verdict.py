"""What the packet filter does with a packet that we only describe: dropped for certain, or not.

The rules are read as `nft -j` says them.  A packet is described as far as it is known; a rule whose match is not known
decides nothing, and a drop is only told when every way through the rules ends in it.  Connection tracking: a
datagram to a group never has an answer, so its state is `new` and nothing else.  Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from igmpconf.linux.nft import Chain, ChainKey, Expression, Found, Ruleset
from igmpconf.model.leaf import Prefix

Answer = bool | None  # None: it depends on what is not known

_PROTOCOLS = {"igmp": 2, "tcp": 6, "udp": 17, "icmpv6": 58, "ipv6-icmp": 58, "icmp": 1}
_ICMPV6_TYPES = {"mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132, "mld-listener-reduction": 132, "mld2-listener-report": 143}
_VERSIONS = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}
_OWN_TABLES = ("igmpconf_flows", "igmpconf_doctor")
_DEEPEST = 16  # jumps; the kernel allows as many


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A datagram to a group; `source` and `group` are prefixes, /0 where nothing is known."""

    version: Literal[4, 6]
    protocol: int
    arrives: str | None  # None: this device sends it
    leaves: str | None  # None: it is for this device
    group: Prefix
    source: Prefix
    icmpv6_type: int | None = None


@dataclass(frozen=True, slots=True)
class Dropping:
    """Who drops it; without `rule`, the policy of the chain."""

    chain: ChainKey
    rule: Found | None


def dropping(ruleset: Ruleset, hook: str, packet: Packet) -> Dropping | None:
    """The first that drops `packet` on `hook` for certain; None when something may let it pass."""
    for chain in ruleset.values():
        if chain.hook != hook or packet.version not in _VERSIONS[chain.key[0]] or chain.key[1] in _OWN_TABLES:
            continue
        end = _walk(ruleset, chain, packet, 0)
        if isinstance(end, Dropping):
            return end
        if end == "end" and chain.policy == "drop":
            return Dropping(chain.key, None)
    return None


_End = Dropping | Literal["accept", "end", "unknown"]


def _walk(ruleset: Ruleset, chain: Chain, packet: Packet, depth: int) -> _End:
    """How the chain ends: `end` is its last rule, or a return."""
    if depth > _DEEPEST:
        return "unknown"
    for rule in chain.rules:
        matched: Answer = True
        end: _End | None = None
        for one in rule.expressions:
            if "match" in one:
                matched = _both(matched, _matches(one["match"], packet))
            elif "limit" in one or "quota" in one or "ct count" in one:
                matched = _both(matched, None)
            else:
                end = _end_of(ruleset, chain, rule, one, packet, depth)
            if matched is False or end is not None:
                break
        if matched is False or end is None or (matched is None and isinstance(end, Dropping)):
            continue  # what may be dropped here, and is dropped further on, is dropped
        return end if matched else "unknown"
    return "end"


def _end_of(ruleset: Ruleset, chain: Chain, rule: Found, one: Expression, packet: Packet, depth: int) -> _End | None:  # noqa: PLR0917
    """What a statement leads to; None when the next one is looked at."""
    if "accept" in one:
        return "accept"
    if "drop" in one or "reject" in one:
        return Dropping(chain.key, rule)
    if "return" in one:
        return "end"
    for word in ("jump", "goto"):
        if word in one:
            target = ruleset.get((chain.key[0], chain.key[1], one[word]["target"]))
            end = _walk(ruleset, target, packet, depth + 1) if target is not None else "unknown"
            return None if end == "end" and word == "jump" else end
    if "vmap" in one:
        return _of_map(ruleset, chain, rule, one["vmap"], packet, depth)
    if "xt" in one or "queue" in one or "tproxy" in one:
        return "unknown"
    return None  # counter, log, a mark: the packet goes on


def _of_map(ruleset: Ruleset, chain: Chain, rule: Found, vmap: Expression, packet: Packet, depth: int) -> _End | None:  # noqa: PLR0917
    data = vmap.get("data")
    rows = data.get("set") if isinstance(data, dict) else None
    if rows is None:
        return "unknown"  # a named map, whose contents are not read
    for value, verdict in rows:
        matched = _matches({"op": "==", "left": vmap["key"], "right": value}, packet)
        if matched:
            return _end_of(ruleset, chain, rule, verdict, packet, depth)
        if matched is None:
            return "unknown"
    return None


def _both(a: Answer, b: Answer) -> Answer:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def _matches(match: Expression, packet: Packet) -> Answer:
    left, right, op = match["left"], match["right"], match.get("op", "==")
    if op not in {"==", "!=", "in"}:
        return None
    found = _any(_equal(left, one, packet) for one in _alternatives(right))
    if op == "!=":
        # a datagram without such a field matches neither way
        return None if found is None else _has(left, packet) and not found
    return found


def _any(answers: Iterable[Answer]) -> Answer:
    known: Answer = False
    for one in answers:
        if one:
            return True
        if one is None:
            known = None
    return known


def _alternatives(right: Any) -> Iterator[Any]:
    if isinstance(right, dict) and "set" in right:
        yield from (one.get("elem", {}).get("val", one) if isinstance(one, dict) and "elem" in one else one for one in right["set"])
    elif isinstance(right, list):
        yield from right
    else:
        yield right


def _has(left: Expression, packet: Packet) -> bool:
    payload = left.get("payload") if isinstance(left, dict) else None
    if not isinstance(payload, dict):
        return True
    protocol = payload.get("protocol")
    if protocol in {"ip", "ip6"}:
        return packet.version == (4 if protocol == "ip" else 6)
    return protocol in {"th", None} or _PROTOCOLS.get(str(protocol)) == packet.protocol


def _equal(left: Any, right: Any, packet: Packet) -> Answer:
    if not isinstance(left, dict) or (isinstance(right, str) and right.startswith("@")):
        return None
    if "meta" in left:
        return _meta(left["meta"].get("key"), right, packet)
    if "payload" in left:
        return _payload(left["payload"], right, packet) if _has(left, packet) else False
    if "ct" in left and left["ct"].get("key") == "state":
        return bool(right == "new")
    if "ct" in left and left["ct"].get("key") == "status" and right in {"dnat", "snat", "seen-reply", "assured"}:
        return False  # nobody answers a group, and nobody translates one
    if "fib" in left and left["fib"].get("result") == "type" and left["fib"].get("flags") == ["daddr"]:
        return bool(right == "multicast")
    return None


def _meta(key: str | None, right: Any, packet: Packet) -> Answer:
    if key in {"iifname", "iif", "oifname", "oif"}:
        name = packet.arrives if key.startswith("i") else packet.leaves
        return name is not None and isinstance(right, str) and (name == right or fnmatchcase(name, right))
    if key == "l4proto":
        return _number(right, _PROTOCOLS, packet.protocol)
    if key == "nfproto":
        return right in ({4: "ipv4", 6: "ipv6"}[packet.version], {4: 2, 6: 10}[packet.version])
    if key == "protocol":
        return right in ({4: "ip", 6: "ip6"}[packet.version], {4: 0x0800, 6: 0x86DD}[packet.version])
    if key == "pkttype" and packet.arrives is not None:
        return bool(right == "multicast")
    return None


def _payload(payload: Expression, right: Any, packet: Packet) -> Answer:
    field = payload.get("field")
    if field == "protocol":
        return _number(right, _PROTOCOLS, packet.protocol)
    if field in {"saddr", "daddr"}:
        return _address(packet.source if field == "saddr" else packet.group, right)
    if payload.get("protocol") == "icmpv6" and field == "type" and packet.icmpv6_type is not None:
        return _number(right, _ICMPV6_TYPES, packet.icmpv6_type)
    return None


def _number(right: Any, names: dict[str, int], value: int) -> Answer:
    if isinstance(right, dict) and "range" in right:
        ends = [names.get(str(end), end) for end in right["range"]]
        return ends[0] <= value <= ends[1] if all(isinstance(end, int) for end in ends) else None
    number = names.get(str(right), right)
    if isinstance(number, str):
        return int(number) == value if number.isdecimal() else False  # another protocol, or a type that is none of ours
    return bool(number == value)


def _address(known: Prefix, right: Any) -> Answer:
    """`known` lies in what the rule names, or outside, or partly."""
    if isinstance(right, dict) and "range" in right:
        low, high = (ipaddress.ip_address(end) for end in right["range"])
        first, last = known.network_address, known.broadcast_address
        if int(last) < int(low) or int(first) > int(high):
            return False
        return True if int(low) <= int(first) and int(last) <= int(high) else None
    text = f"{right['prefix']['addr']}/{right['prefix']['len']}" if isinstance(right, dict) and "prefix" in right else right
    try:
        named = ipaddress.ip_network(text, strict=False)
    except (TypeError, ValueError):
        return None
    if named.version != known.version or not named.overlaps(known):
        return False
    return True if named.prefixlen <= known.prefixlen else None

"""Firewall rules that the streams need, kept in nftables: which are wanted, which are there, what brings one to the other.

Our rules stand in other people's base chains, those of hook input, forward and output that drop something, before the
first rule that may drop.  A rule of ours is known by its comment, `igmpconf:` and a digest of what it says; nothing
else in those chains is ever touched.  A chain that drops nothing is left alone.  Two kinds of rules stand in a table of
our own: a drop which the user wants and no such chain can take, and what guards the streams (guard.py), because a
chain of others may accept before it.

Read and written with the program `nft` in JSON: one listing (3 ms), one transaction, so that no packet meets half of
it.  Pure but for `Nftables`.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import Any

from igmpconf.errors import KernelError
from igmpconf.model.config import DeviceConfig, FirewallRule, InterfaceConfig, ProxyConfig, default_of
from igmpconf.model.effective import belongs, is_pattern, overlap
from igmpconf.model.leaf import Prefix
from igmpconf.model.state import DeviationRow

MARK = "igmpconf:"
TABLE = "igmpconf"  # ours, of family inet; there only while a drop needs it
_HOOKS = ("input", "forward", "output")
_VERSIONS = {"ip": frozenset({4}), "ip6": frozenset({6}), "inet": frozenset({4, 6})}
_PROTOCOLS = {"igmp": 2, "icmpv6": 58, "udp": 17, "tcp": 6}  # numbers: names need /etc/protocols, which small systems lack
_PROTOCOL_VERSION = {"igmp": 4, "icmpv6": 6}
_GROUPS = {4: {"addr": "224.0.0.0", "len": 4}, 6: {"addr": "ff00::", "len": 8}}
_COMMENT_CHARACTERS = 100  # nft allows 128 octets; what is longer is cut
_COMMENT_OCTETS = 127
_PATIENCE_S = 5.0  # for the program nft
_PLACES = "/usr/sbin:/sbin:/usr/local/sbin"  # not on every service's path
_SAID_CHARACTERS = 200

Expression = dict[str, Any]
ChainKey = tuple[str, str, str]  # family, table, chain


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that is wanted: in every chain of `hook` that drops and sees one of the IP `versions`."""

    hook: str
    versions: frozenset[int]
    text: str  # its expressions, as JSON
    comment: str
    drops: bool = False
    is_own: bool = False  # stands in our own table only, where no verdict of others comes first

    @property
    def expressions(self) -> list[Expression]:
        found: list[Expression] = json.loads(self.text)
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """One rule that is there; `text` is as nft says it, without counts."""

    handle: int
    comment: str
    text: str
    expressions: tuple[Expression, ...]

    @property
    def is_ours(self) -> bool:
        return self.comment.startswith(MARK)


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain with its rules; `hook` is None for a chain that is only jumped to, and for one that does not filter."""

    key: ChainKey
    hook: str | None
    policy: str
    rules: tuple[Found, ...]


Ruleset = dict[ChainKey, Chain]


# what is wanted


def wanted_rules(config: DeviceConfig, names: Iterable[str] = ()) -> tuple[Rule, ...]:
    """What the configuration asks for, in the order in which the rules stand: the user's own first.

    `names` are the interfaces there are; patterns that nftables cannot say (`lan?`) stand for those they match.
    """
    firewall = config.firewall
    if firewall is None:
        return ()
    known = sorted(names)
    found = [rule for one in firewall.rules for rule in _written(one, known)]
    if firewall.manage:
        for proxy in config.proxies:
            if proxy.enabled is not False:
                found += _needed_on_a_bridge(proxy) if proxy.mode == "bridged" else _needed(proxy, known)
    return tuple(dict.fromkeys(found))


def _needed(proxy: ProxyConfig, names: Sequence[str]) -> Iterable[Rule]:
    """What an instance needs on its own interfaces: memberships in and out, and the streams."""
    families = proxy.family or default_of(ProxyConfig, "family")
    for entry in proxy.interfaces:
        if entry.enabled is False:
            continue
        for interface in _names_of(proxy, entry, names):
            arrives, leaves = _interface("iifname", interface), _interface("oifname", interface)
            if "ipv4" in families:
                yield _rule("input", {4}, [*arrives, _protocol("igmp")], "accept", "manage: IGMP")
                yield _rule("output", {4}, [*leaves, _protocol("igmp")], "accept", "manage: IGMP")
                yield _rule("forward", {4}, [*arrives, _address("daddr", 4, _GROUPS[4]), _protocol("udp")], "accept", "manage: streams")
            if "ipv6" in families:
                # RFC 9777 5: query, version 1 report, done; version 2 report
                for types in ({"range": [130, 132]}, 143):
                    of_mld = _match({"payload": {"protocol": "icmpv6", "field": "type"}}, types)
                    yield _rule("input", {6}, [*arrives, of_mld], "accept", "manage: MLD")
                    yield _rule("output", {6}, [*leaves, of_mld], "accept", "manage: MLD")
                yield _rule("forward", {6}, [*arrives, _address("daddr", 6, _GROUPS[6]), _protocol("udp")], "accept", "manage: streams")


def _needed_on_a_bridge(proxy: ProxyConfig) -> Iterable[Rule]:
    """What a bridged instance needs where the kernel shows bridged frames to these chains as well (bridge-nf-call-iptables): the streams."""
    families = proxy.family or default_of(ProxyConfig, "family")
    for version in (4, 6):
        if f"ipv{version}" in families and proxy.bridge is not None:
            among_ports = [*_interface("iifname", proxy.bridge), *_interface("oifname", proxy.bridge)]
            yield _rule("forward", {version}, [*among_ports, _address("daddr", version, _GROUPS[version]), _protocol("udp")], "accept", "manage: streams")


def _written(one: FirewallRule, names: Sequence[str]) -> Iterable[Rule]:
    prefixes = [prefix for prefix in (one.source, one.destination) if prefix is not None]
    versions = {prefix.version for prefix in prefixes} | ({_PROTOCOL_VERSION[one.protocol]} if one.protocol in _PROTOCOL_VERSION else set())
    if len(versions) > 1:
        return  # matches nothing; the rules of the schema refuse it
    for arrives in _nft_names(one.in_interface, names):
        for leaves in _nft_names(one.out_interface, names):
            matches = [*_interface("iifname", arrives), *_interface("oifname", leaves)]
            matches += [_address(field, prefix.version, _said(prefix)) for field, prefix in (("saddr", one.source), ("daddr", one.destination)) if prefix]
            if one.protocol is not None:
                matches.append(_protocol(one.protocol))
            yield _rule(one.chain, versions or {4, 6}, matches, one.action, f"rule {one.sequence}" + (f": {one.comment}" if one.comment else ""))


def drop_of_forwarded(
    what: str, version: int, *, arrives: str | None = None, leaves: str | None = None, unless_from: Sequence[Prefix] = (), to: Sequence[Prefix] = ()
) -> Rule:
    """Drops datagrams to groups in `to` (empty: to any group) that are forwarded, except those from `unless_from`; IGMP and MLD are never forwarded."""
    matches = [*_interface("iifname", arrives), *_interface("oifname", leaves)]
    matches.append(_in("daddr", version, to) if to else _address("daddr", version, _GROUPS[version]))
    if unless_from:
        matches.append(_in("saddr", version, unless_from, op="!="))
    return dataclasses.replace(_rule("forward", {version}, matches, "drop", what), is_own=True)


def _rule(hook: str, versions: Iterable[int], matches: Sequence[Expression], verdict: str, what: str) -> Rule:
    text = json.dumps([*matches, {"counter": None}, {verdict: None}])
    # a quote would make a saved ruleset unreadable for nft, a control character for people
    readable = "".join("'" if sign in '"\\' else sign if sign.isprintable() else " " for sign in what)[:_COMMENT_CHARACTERS]
    comment = f"{MARK}{hashlib.sha256(text.encode()).hexdigest()[:8]} {readable}"
    while len(comment.encode()) > _COMMENT_OCTETS:
        comment = comment[:-1]
    return Rule(hook, frozenset(versions), text, comment, verdict == "drop")


def _match(left: Expression, right: Any) -> Expression:
    return {"match": {"op": "==", "left": left, "right": right}}


def _protocol(name: str) -> Expression:
    return _match({"meta": {"key": "l4proto"}}, _PROTOCOLS[name])


def _address(field: str, version: int, prefix: Expression) -> Expression:
    return _match({"payload": {"protocol": "ip" if version == 4 else "ip6", "field": field}}, {"prefix": prefix})


def _in(field: str, version: int, prefixes: Sequence[Prefix], op: str = "==") -> Expression:
    left = {"payload": {"protocol": "ip" if version == 4 else "ip6", "field": field}}
    return {"match": {"op": op, "left": left, "right": {"set": [{"prefix": _said(prefix)} for prefix in prefixes]}}}


def _said(prefix: Prefix) -> Expression:
    return {"addr": str(prefix.network_address), "len": prefix.prefixlen}


def _interface(key: str, name: str | None) -> list[Expression]:
    return [_match({"meta": {"key": key}}, name)] if name is not None else []


def _nft_names(pattern: str | None, names: Sequence[str]) -> list[str | None]:
    """How nftables says an interface name or pattern; None is any.  It knows a star at the end and no other pattern."""
    if pattern is None or pattern == "*":
        return [None]
    if not is_pattern(pattern) or (pattern.endswith("*") and not is_pattern(pattern[:-1])):
        return [pattern]
    return [name for name in names if fnmatchcase(name, pattern)]


def _names_of(proxy: ProxyConfig, entry: InterfaceConfig, names: Sequence[str]) -> list[str | None]:
    """How nftables says the interfaces of an entry.

    A star stays a star, which needs no change as interfaces come, unless it would open one that an entry of its own
    has switched off.
    """
    off = [other.interface for other in proxy.interfaces if other.enabled is False]
    if is_pattern(entry.interface) and any(overlap(name, entry.interface) for name in off):
        return [name for name in names if belongs(proxy, name, entry)]
    return _nft_names(entry.interface, names)


# what is there


def parsed(listing: str) -> Ruleset:
    """The chains of families ip, ip6 and inet in the answer of `nft -j list ruleset`."""
    heads: dict[ChainKey, Expression] = {}
    rules: dict[ChainKey, list[Found]] = {}
    for item in json.loads(listing)["nftables"]:
        for kind, body in item.items():
            if kind == "chain" and body["family"] in _VERSIONS:
                heads[body["family"], body["table"], body["name"]] = body
            elif kind == "rule" and body["family"] in _VERSIONS:
                expressions = tuple({"counter": None} if "counter" in one else one for one in body["expr"])
                text = json.dumps(expressions, sort_keys=True)
                rules.setdefault((body["family"], body["table"], body["chain"]), []).append(Found(body["handle"], body.get("comment", ""), text, expressions))
    return {
        key: Chain(key, head.get("hook") if head.get("type") == "filter" else None, head.get("policy", "accept"), tuple(rules.get(key, ())))
        for key, head in heads.items()
    }


def first_drop(ruleset: Ruleset, chain: Chain) -> int | None:
    """Place of the first rule, not ours, that may drop a packet, itself or where it jumps to."""
    return next((place for place, rule in enumerate(chain.rules) if not rule.is_ours and _may_drop(ruleset, chain.key, rule, frozenset())), None)


def _may_drop(ruleset: Ruleset, key: ChainKey, rule: Found, seen: frozenset[str]) -> bool:
    for one in rule.expressions:
        if "drop" in one or "reject" in one:
            return True
        if "xt" in one and one is rule.expressions[-1]:
            return True  # a target of iptables, REJECT perhaps; nft does not tell
        if "vmap" in one:
            data = one["vmap"].get("data")
            verdicts = data.get("set") if isinstance(data, dict) else None
            if verdicts is None or any(_verdict_may_drop(ruleset, key, verdict, seen) for _, verdict in verdicts):
                return True  # a named map is not listed: anything may be in it
        elif _verdict_may_drop(ruleset, key, one, seen):
            return True
    return False


def _verdict_may_drop(ruleset: Ruleset, key: ChainKey, verdict: Expression, seen: frozenset[str]) -> bool:
    if "drop" in verdict or "reject" in verdict:
        return True
    target = next((verdict[word]["target"] for word in ("jump", "goto") if isinstance(verdict.get(word), dict)), None)
    chain = ruleset.get((key[0], key[1], target)) if target is not None and target not in seen else None
    return chain is not None and any(_may_drop(ruleset, key, rule, seen | {str(target)}) for rule in chain.rules if not rule.is_ours)


def drops(ruleset: Ruleset, chain: Chain) -> bool:
    """A base chain of one of our hooks, not our own, that does not let everything pass."""
    return chain.hook in _HOOKS and chain.key[1] != TABLE and (chain.policy == "drop" or first_drop(ruleset, chain) is not None)


# from one to the other


@dataclass(frozen=True, slots=True)
class Change:
    """What one chain lacks or has too much; `commands` are nft's, in order."""

    key: ChainKey
    commands: tuple[Expression, ...]
    absent: tuple[Rule, ...]
    stray: tuple[Found, ...]


def changes(ruleset: Ruleset, wanted: Sequence[Rule], shown: Mapping[tuple[str, str], str]) -> list[Change]:
    """The least that has to be done; empty when all is as wanted.

    `shown` says how nft prints each rule of ours, by family and comment: a rule that prints otherwise was edited.
    Rules that stay keep their counters.
    """
    found = []
    for chain in ruleset.values():
        if chain.key[1] == TABLE:
            continue
        mine = [rule for rule in wanted if _belongs_into(rule, chain)] if drops(ruleset, chain) else []
        change = _change(chain, mine, first_drop(ruleset, chain), shown)
        if change is not None:
            found.append(change)
    return found + _own_table(ruleset, wanted, shown)


def _belongs_into(rule: Rule, chain: Chain) -> bool:
    return rule.hook == chain.hook and not rule.is_own and bool(rule.versions & _VERSIONS[chain.key[0]])


def _change(chain: Chain, wanted: Sequence[Rule], limit: int | None, shown: Mapping[tuple[str, str], str]) -> Change | None:
    ours = [(place, rule) for place, rule in enumerate(chain.rules) if rule.is_ours]
    sound = [rule for place, rule in ours if (limit is None or place < limit) and shown.get((chain.key[0], rule.comment)) == rule.text]
    # What stands in the right order stays.
    blocks = SequenceMatcher(None, [rule.comment for rule in sound], [rule.comment for rule in wanted], autojunk=False).get_matching_blocks()
    kept = {block.b + step: sound[block.a + step] for block in blocks for step in range(block.size)}
    stays = {rule.handle for rule in kept.values()}
    stray = [rule for _, rule in ours if rule.handle not in stays]
    absent = [rule for place, rule in enumerate(wanted) if place not in kept]
    if not stray and not absent:
        return None
    where = dict(zip(("family", "table", "chain"), chain.key, strict=True))
    commands: list[Expression] = [{"delete": {"rule": where | {"handle": rule.handle}}} for rule in stray]
    for place, rule in enumerate(wanted):
        if place in kept:
            continue
        body = where | {"comment": rule.comment, "expr": rule.expressions}
        later = min((number for number in kept if number > place), default=None)
        before = kept[later].handle if later is not None else chain.rules[limit].handle if limit is not None else None
        commands.append({"add": {"rule": body}} if before is None else {"insert": {"rule": body | {"handle": before}}})
    return Change(chain.key, tuple(commands), tuple(absent), tuple(stray))


def _own_table(ruleset: Ruleset, wanted: Sequence[Rule], shown: Mapping[tuple[str, str], str]) -> list[Change]:
    """Chains of our own for the hooks where rules are wanted that stand nowhere else, or a drop that the chains of others do not take for every version."""
    needed: dict[str, list[Rule]] = {}
    for hook in _HOOKS:
        of_hook = [rule for rule in wanted if rule.hook == hook]
        covered = frozenset[int]().union(*(_VERSIONS[chain.key[0]] for chain in ruleset.values() if chain.hook == hook and drops(ruleset, chain)))
        is_uncovered = any(rule.drops and not rule.is_own and not rule.versions <= covered for rule in of_hook)
        here = [rule for rule in of_hook if rule.is_own or is_uncovered]
        if here:
            needed[hook] = here
    there = {chain.key[2]: chain for chain in ruleset.values() if chain.key[:2] == ("inet", TABLE)}
    found = []
    for hook in sorted({*needed, *there}):
        key = ("inet", TABLE, hook)
        if hook not in needed:
            gone: list[Expression] = [{"delete": {"table": {"family": "inet", "name": TABLE}}}] if not needed else _without(key)
            found.append(Change(key, tuple(gone), (), there[hook].rules))
            if not needed:
                return found
            continue
        chain = there.get(hook)
        first: list[Expression] = []
        if chain is None:
            chain = Chain(key, hook, "accept", ())
            base = {"family": "inet", "table": TABLE, "name": hook, "type": "filter", "hook": hook, "prio": 0, "policy": "accept"}
            first = [{"add": {"table": {"family": "inet", "name": TABLE}}}, {"add": {"chain": base}}]
        change = _change(chain, needed[hook], None, shown)
        if change is not None:
            found.append(Change(key, (*first, *change.commands), change.absent, change.stray))
    return found


def _without(key: ChainKey) -> list[Expression]:
    body = dict(zip(("family", "table", "name"), key, strict=True))
    return [{"flush": {"chain": body}}, {"delete": {"chain": body}}]


# the program


class Nftables:
    """The packet filter of this network namespace, by the program `nft`."""

    def __init__(self, program: str = "nft") -> None:
        self._program = program
        self._shown: dict[tuple[str, str], str] = {}

    def read(self) -> Ruleset:
        """All of it but the contents of sets.  Raises KernelError."""
        return parsed(self._run("read the firewall", "-t", "list", "ruleset"))

    def deviations(self, wanted: Sequence[Rule]) -> list[DeviationRow]:
        """Where what is there is not what is wanted.  Raises KernelError."""
        rows = []
        for change in changes(self.read(), wanted, self._shown):
            again = {rule.comment for rule in change.absent}
            chain = " ".join(change.key)
            there = {rule.comment for rule in change.stray}
            rows += [_deviation(chain, rule.comment, "present", "edited or moved" if rule.comment in there else "absent") for rule in change.absent]
            rows += [_deviation(chain, rule.comment, "absent", "present") for rule in change.stray if rule.comment not in again]
        return rows

    def make(self, wanted: Sequence[Rule]) -> bool:
        """Make it so; True when something had to be changed.  Raises KernelError, and then nothing was changed."""
        verb = "place the firewall rules"
        for attempt in range(3):
            todo = changes(self.read(), wanted, self._shown)
            if not todo:
                return attempt > 0
            commands = [command for change in todo for command in change.commands]
            try:
                self._run(verb, "-f", "-", text=json.dumps({"nftables": commands}))
            except KernelError as error:
                if error.errno != errno.EAGAIN or attempt == 2:
                    raise
                continue  # somebody else changed the chains since we read them
            self._learn(todo)
        if changes(self.read(), wanted, self._shown):
            raise KernelError(verb, errno.EBUSY, f"cannot {verb}: another program keeps changing the same chains", hint="see `nft monitor`")
        return True

    def counts(self) -> dict[str, int]:
        """Packets that matched each rule of our own table, by comment.  Raises KernelError."""
        found: dict[str, int] = {}
        for item in json.loads(self._run("read the firewall", "-t", "list", "ruleset"))["nftables"]:
            rule = item.get("rule")
            if rule is not None and rule["table"] == TABLE:
                found[rule.get("comment", "")] = sum(one["counter"]["packets"] for one in rule["expr"] if isinstance(one.get("counter"), dict))
        return found

    def _learn(self, done: Sequence[Change]) -> None:
        """How nft prints what we just placed."""
        ruleset = self.read()
        for change in done:
            placed = {rule.comment for rule in change.absent}
            chain = ruleset.get(change.key)
            for rule in chain.rules if chain is not None else ():
                if rule.comment in placed:
                    self._shown[change.key[0], rule.comment] = rule.text

    def _run(self, verb: str, *arguments: str, text: str | None = None) -> str:
        program = shutil.which(self._program, path=os.pathsep.join((os.environ.get("PATH", ""), _PLACES)))
        if program is None:
            raise KernelError(
                verb, errno.ENOENT, f"cannot {verb}: the program {self._program} is missing", hint="install the package nftables, or take the firewall part out"
            )
        try:
            done = subprocess.run([program, "-j", "-a", *arguments], input=text, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise KernelError(verb, errno.ETIMEDOUT, f"cannot {verb}: {self._program} took longer than {_PATIENCE_S:g} s") from None
        except OSError as error:
            raise KernelError(verb, error.errno or errno.EIO, f"cannot {verb}: {self._program}: {error.strerror}") from None
        if done.returncode == 0:
            return done.stdout
        said = next((line for line in done.stderr.splitlines() if "rror" in line), done.stderr.strip() or f"exit code {done.returncode}")
        said = said.removeprefix("internal:0:0-0: ").removeprefix("Error: ")[:_SAID_CHARACTERS]
        if "not permitted" in said:
            raise KernelError(verb, errno.EPERM, f"cannot {verb}: {said}", hint="the agent needs CAP_NET_ADMIN")
        raise KernelError(verb, errno.EAGAIN, f"cannot {verb}: {self._program}: {said}", hint="`nft list ruleset` shows the chains")


def _deviation(chain: str, comment: str, expected: str, found: str) -> DeviationRow:
    return DeviationRow(kind="firewall", name=f"{chain}: {comment.removeprefix(MARK)}"[:255], expected=expected, found=found)

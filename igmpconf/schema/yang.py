"""The model as a YANG 1.1 module: what get-schema answers, and what `schemas/igmpconf.yang` holds.

Printed from `nodes(cls)`; the module imports nothing, so that any tool can load it alone.  What XPath 1.0 can say of
the rules in `semantic.py` is printed as `must` and `unique`; durations are text, so that the rest cannot be said.
A second, small module adds our two parameters to `<commit>`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from igmpconf.model.answers import MOST_LINES, CapturePage, LogPage
from igmpconf.model.config import DeviceConfig, FirewallRule, InterfaceConfig, ProxyConfig, StaticRoute, VlanConfig
from igmpconf.model.diagnosis import DEFAULT_MS, LONGEST_MS, Diagnosis
from igmpconf.model.leaf import (
    Bool,
    Duration,
    Enum,
    GroupAddress,
    GroupOrAny,
    Integer,
    IpAddress,
    IpPrefix,
    LeafType,
    Node,
    SourceAddress,
    Text,
    nodes,
)
from igmpconf.model.notices import NAMES
from igmpconf.model.state import DeviceState
from igmpconf.schema.names import MODULE, NAMESPACE, PREFIX, REVISION

NETCONF_MODULE = "igmpconf-netconf"
NETCONF_NAMESPACE = "urn:igmpconf:yang:igmpconf-netconf"

_WIDTH = 100

# (XPath, error-app-tag, error-message) by class; the codes are those of semantic.py.
_MUSTS: dict[type, tuple[tuple[str, str, str], ...]] = {
    ProxyConfig: (
        ("enabled = 'false' or count(interfaces[upstream = 'true']) = 1", "upstream/one", "An instance has exactly one upstream interface."),
        ("(mode = 'bridged') = boolean(bridge)", "bridge/missing", "Mode bridged needs a bridge, and only mode bridged has one."),
    ),
    InterfaceConfig: (
        (
            "not(minimum-version > version) and not(minimum-mld-version > mld-version)",
            "version/below-minimum",
            "Who does not hear the version that it speaks hears none of the answers.",
        ),
    ),
    StaticRoute: (
        ("../enabled = 'false' or downstream-interface", "mfc/no-downstream", "An entry is forwarded to one interface at least."),
        ("../enabled = 'false' or not(downstream-interface = upstream-interface)", "mfc/loop", "An entry is not forwarded to where it arrives."),
    ),
    FirewallRule: (("not(chain = 'input' and out-interface)", "firewall/out-interface-on-input", "Packets for this device leave by no interface."),),
}
_UNIQUE: dict[type, str] = {VlanConfig: "interface vlan-id"}

_ADDRESS = r"[0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*"
_NUMBER = r"[0-9]+(\.[0-9]+)?"
_TYPEDEFS = (
    (
        "duration",
        rf"[0-9]{{1,12}}|[0-9]{{1,4}}:[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,3}})?|({_NUMBER}h)?({_NUMBER}m)?({_NUMBER}s)?({_NUMBER}ms)?",
        (
            "A time span: with units, largest first (2m5s, 31.25s, 500ms), which is the canonical form; as a clock (00:02:05); "
            "or as a bare integer of centiseconds (3125 is 31.25s).  The range is told with each leaf."
        ),
    ),
    ("ip-address", _ADDRESS, "An IPv4 or IPv6 address without zone."),
    ("group-address", _ADDRESS, "A multicast group address, in 224.0.0.0/4 or ff00::/8."),
    ("group-or-any", rf"\*|{_ADDRESS}", "A multicast group address, or * for every group."),
    ("source-address", rf"\*|{_ADDRESS}", "A unicast source address, or * for any source."),
    ("ip-prefix", rf"({_ADDRESS})(/[0-9]{{1,3}})?", "An IPv4 or IPv6 prefix without host bits; an address alone is its own /32 or /128."),
)


def module_text() -> str:
    """The module `igmpconf`, the same text every time."""
    out = _Printer()
    _header(out, MODULE, NAMESPACE, PREFIX, "Configuration and state of IGMP and MLD proxies (RFC 4605).")
    for name, pattern, description in _TYPEDEFS:
        with out.block(f"typedef {name}"):
            with out.block("type string"):
                if name == "duration":
                    out.line('length "1..64";')
                out.line(f"pattern {_single(pattern)};")
            out.text("description", description)
        out.line("")
    for n in nodes(DeviceConfig):
        _node(out, n, is_config=True)
        out.line("")
    with out.block("container state"):
        out.line("config false;")
        out.text("description", "What is so: the operational state of the device, as of the moment it was asked for.")
        for n in nodes(DeviceState):
            _node(out, n, is_config=False)
    out.line("")
    with out.block("rpc get-commit"):
        out.text("description", "The running configuration as it was after one commit of the history.")
        with out.block("input"), out.block("leaf number"):
            out.line("type uint64;")
            out.line("mandatory true;")
            out.text("description", "Number of the commit, as /state/history tells it.")
        with out.block("output"), out.block("anydata config"):
            out.text("description", "The top-level nodes of this module as they were.")
    out.line("")
    with out.block("rpc get-log"):
        out.text("description", "Lines of the agent's log, oldest first.")
        with out.block("input"):
            with out.block("leaf after"):
                out.line("type uint64;")
                out.text("description", "Only lines with a higher number; absent: the newest lines.")
            with out.block("leaf limit"):
                with out.block("type uint32"):
                    out.line(f'range "1..{MOST_LINES}";')
                out.line(f"default {_double(str(MOST_LINES))};")
                out.text("description", "How many lines at most.")
        with out.block("output"):
            for n in nodes(LogPage):
                _node(out, n, is_config=False)
    out.line("")
    with out.block("rpc diagnose"):
        out.text("description", (Diagnosis.__doc__ or "").strip() + "  Looks at the device for a moment, one who asks after another.")
        with out.block("input"), out.block("leaf window"):
            with out.block("type uint32"):
                out.line(f'range "0..{LONGEST_MS}";')
            out.line('units "milliseconds";')
            out.line(f"default {_double(str(DEFAULT_MS))};")
            out.text("description", "How long to look; with 0 only what the kernel knows is told, and nothing of what passes.")
        with out.block("output"):
            for n in nodes(Diagnosis):
                _node(out, n, is_config=False)
    for name, parameter, is_answered, description in _CAPTURES:
        out.line("")
        with out.block(f"rpc {name}"):
            out.text("description", description)
            with out.block("input"), out.block(f"leaf {parameter}"):
                out.line("type string;")
                out.line("mandatory true;")
                out.text("description", "The interface to listen on." if parameter == "interface" else "The capture, as begin-capture named it.")
            if is_answered:
                with out.block("output"):
                    for n in nodes(CapturePage):
                        _node(out, n, is_config=False)
    for cls, name in NAMES.items():
        out.line("")
        with out.block(f"notification {name}"):
            out.text("description", (cls.__doc__ or "").strip())
            for n in nodes(cls):
                _node(out, n, is_config=False, is_mandatory=n.required)
    return out.close()


_CAPTURES = (
    ("begin-capture", "interface", True, "Keep the IGMP and MLD messages that pass on an interface, in both directions, until they are read."),
    ("read-capture", "id", True, "What was captured since the last reading; a capture that nobody reads for ten seconds ends."),
    ("end-capture", "id", False, "End a capture."),
)
_COMMIT_LEAVES = (
    (
        "plan",
        "1..255",
        "Identity of the plan that is applied.  When it is that of the last commit, and nothing changed since, the operation succeeds without doing anything.",
    ),
    ("comment", "0..255", "What the change is for."),
)


def netconf_module_text() -> str:
    """The module `igmpconf-netconf`: what igmpconf adds to `<commit>`."""
    out = _Printer()
    _header(out, NETCONF_MODULE, NETCONF_NAMESPACE, "ign", "What igmpconf adds to the operations of NETCONF.", "ietf-netconf")
    with out.block('augment "/nc:commit/nc:input"'):
        out.text("description", "Who asks why: both are kept with the commit, see /state/history of module igmpconf.")
        for name, length, description in _COMMIT_LEAVES:
            with out.block(f"leaf {name}"):
                with out.block("type string"):
                    out.line(f'length "{length}";')
                    out.line(r"pattern '[^\n\r\t]*';")
                out.text("description", description)
    return out.close()


def _header(out: _Printer, name: str, namespace: str, prefix: str, description: str, *imports: str) -> None:
    """Open the module: everything that stands before its first definition."""
    out.open(f"module {name}")
    out.line("yang-version 1.1;")
    out.line(f'namespace "{namespace}";')
    out.line(f"prefix {prefix};")
    out.line("")
    for imported in imports:
        with out.block(f"import {imported}"):
            out.line("prefix nc;")
            out.line('reference "RFC 6241";')
        out.line("")
    out.line('organization "igmpconf";')
    out.line('contact "the maintainers of igmpconf";')
    out.text("description", description)
    out.line("")
    with out.block(f"revision {REVISION}"):
        out.text("description", "First version.")
    out.line("")


def _node(out: _Printer, n: Node, *, is_config: bool, is_mandatory: bool = False, key: tuple[str, ...] = ()) -> None:
    with out.block(f"{n.kind} {n.name}"):
        if n.kind in {"leaf", "leaf-list"}:
            assert n.type is not None
            _type(out, n.type)
            if is_config and n.name not in key:
                defaults = (n.default if n.kind == "leaf-list" else (n.default,)) if n.default is not None and not n.required else ()
                for default in defaults:
                    out.line(f"default {_double(n.type.text(default))};")
                if n.required:
                    out.line("mandatory true;")
            if is_mandatory:
                out.line("mandatory true;")
            out.text("description", _meaning(n))
            if n.source:
                out.text("reference", n.source)
            return
        if n.kind == "list":
            if n.key:
                out.line(f'key "{" ".join(n.key)}";')
            if n.cls in _UNIQUE:
                out.line(f'unique "{_UNIQUE[n.cls]}";')
            if n.max_elements is not None:
                out.line(f"max-elements {n.max_elements};")
        for xpath, app_tag, message in _MUSTS.get(n.cls, ()):
            with out.block(f"must {_double(xpath)}"):
                out.line(f"error-message {_double(message)};")
                out.line(f"error-app-tag {_double(app_tag)};")
        ordered = "  The entries stand in the order of their sequence." if n.numbered else ""
        out.text("description", _sentence(n.meaning) + ordered)
        for inner in nodes(n.cls):
            _node(out, inner, is_config=is_config, key=n.key)


def _meaning(n: Node) -> str:
    text = _sentence(n.meaning)
    if isinstance(n.type, Duration):
        text += f"  Range: {n.type.described().removeprefix('a duration ')}."
    if n.inherits:
        text += "  Absent: as the instance says."
    return text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _type(out: _Printer, kind: LeafType) -> None:
    named = {
        GroupAddress: "group-address",
        GroupOrAny: "group-or-any",
        SourceAddress: "source-address",
        IpAddress: "ip-address",
        IpPrefix: "ip-prefix",
        Duration: "duration",
        Bool: "boolean",
    }
    if type(kind) in named:
        out.line(f"type {named[type(kind)]};")
    elif isinstance(kind, Integer):
        bits = next(bits for bits in (8, 16, 32, 64) if kind.high < 2**bits)
        if (kind.low, kind.high) == (0, 2**bits - 1):
            out.line(f"type uint{bits};")
        else:
            with out.block(f"type uint{bits}"):
                out.line(f'range "{kind.low}..{kind.high}";')
    elif isinstance(kind, Enum):
        with out.block("type enumeration"):
            for word in kind.words:
                out.line(f"enum {word};")
    else:
        assert isinstance(kind, Text)
        _text(out, kind)


def _text(out: _Printer, kind: Text) -> None:
    pattern = kind.pattern if kind.yang_pattern is None else kind.yang_pattern
    if not pattern:
        out.line("type string;")
        return
    with out.block("type string"):
        out.line(f"pattern {_single(pattern)};")
        if kind.but_not is not None:
            with out.block(f"pattern {_single(kind.but_not)}"):
                out.line("modifier invert-match;")


def _single(text: str) -> str:
    """A YANG string without escapes (RFC 7950 6.1.3); patterns hold backslashes, never quotes."""
    assert "'" not in text
    return f"'{text}'"


def _double(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Block:
    def __init__(self, printer: _Printer) -> None:
        self._printer = printer

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._printer.end()


class _Printer:
    """Lines with an indent of two a level."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def line(self, text: str) -> None:
        self._lines.append(f"{'  ' * self._depth}{text}" if text else "")

    def open(self, head: str) -> None:
        self.line(f"{head} {{")
        self._depth += 1

    def end(self) -> None:
        self._depth -= 1
        self.line("}")

    def block(self, head: str) -> _Block:
        self.open(head)
        return _Block(self)

    def text(self, keyword: str, text: str) -> None:
        for line in self._wrapped(keyword, _double(text) + ";"):
            self.line(line)

    def _wrapped(self, keyword: str, quoted: str) -> Iterator[str]:
        room = _WIDTH - 2 * self._depth
        if len(keyword) + 1 + len(quoted) <= room:
            yield f"{keyword} {quoted}"
            return
        yield keyword
        # RFC 7950 6.1.3: white space before the column of the opening quote is cut from each following line
        lines = textwrap.wrap(quoted, room - 3, break_long_words=False, break_on_hyphens=False)
        yield f"  {lines[0]}"
        for line in lines[1:]:
            yield f"   {line}"

    def close(self) -> str:
        self.end()
        while self._lines and not self._lines[-1]:
            self._lines.pop()
        return "\n".join(_without_blank_ends(self._lines)) + "\n"


def _without_blank_ends(lines: list[str]) -> Iterator[str]:
    for i, line in enumerate(lines):
        following: Any = lines[i + 1] if i + 1 < len(lines) else None
        if line or (following is not None and following.strip() != "}"):
            yield line

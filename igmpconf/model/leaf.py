"""How a leaf describes itself: type, range, unit, default, meaning.

`model/config.py` and `model/state.py` are written with the four constructors below (`leaf`, `leaf_list`,
`container`, `keyed_list`); everything else (YAML, JSON and XML codecs, both printed schemas, diff, `explain`, the
reference) walks `nodes(cls)`.  This file knows nothing of files, YAML or XML: a leaf type turns an
already-scalar value into its canonical Python value and back.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network

ANY_SOURCE = "*"


class LeafError(ValueError):
    """A scalar does not fit its leaf: `expected` completes the sentence "expected ..."."""

    def __init__(self, expected: str, *, hint: str | None = None) -> None:
        super().__init__(f"expected {expected}")
        self.expected = expected
        self.hint = hint


def _said(value: object) -> str:
    """A scalar the way YAML or XML would show it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@dataclass(frozen=True, slots=True)
class LeafType:
    """Base of the leaf types; `parse` accepts YAML scalars and XML text alike."""

    def parse(self, raw: object) -> Any:
        """The canonical value of `raw`.  Raises LeafError."""
        raise LeafError("a value")

    def text(self, value: Any) -> str:
        """Canonical text of a parsed value: what XML, plans and tables show."""
        return str(value)

    def plain(self, value: Any) -> bool | int | str:
        """The value as JSON and YAML write it."""
        return self.text(value)

    def described(self) -> str:
        """Type and range in words, for messages and for the reference."""
        return "a value"


@dataclass(frozen=True, slots=True)
class Bool(LeafType):
    def parse(self, raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        word = raw.strip().lower() if isinstance(raw, str) else None
        if word in {"true", "yes", "on"}:
            return True
        if word in {"false", "no", "off"}:
            return False
        raise LeafError("yes or no")

    def text(self, value: Any) -> str:
        return "true" if value else "false"

    def plain(self, value: Any) -> bool:
        return bool(value)

    def described(self) -> str:
        return "yes or no"


@dataclass(frozen=True, slots=True)
class Integer(LeafType):
    low: int
    high: int

    def parse(self, raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int | str):
            raise LeafError(self.described())
        if isinstance(raw, str):
            if not re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", raw):
                raise LeafError(self.described())
            raw = int(raw)
        if not self.low <= raw <= self.high:
            raise LeafError(self.described())
        return raw

    def plain(self, value: Any) -> int:
        return int(value)

    def described(self) -> str:
        return f"an integer {self.low}..{self.high}"


_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_CLOCK = re.compile(r"([0-9]{1,4}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{1,3})?)")


def duration_text(value_ms: int) -> str:
    """Canonical text of a duration in milliseconds: `31.25s`, `2m5s`, `500ms`, `0s`."""
    if value_ms == 0:
        return "0s"
    if value_ms < 1_000:
        return f"{value_ms}ms"
    hours, rest = divmod(value_ms, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    seconds = f"{Decimal(rest) / 1000:f}s" if rest else ""
    if "." in seconds:
        seconds = seconds[:-1].rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "") + seconds


@dataclass(frozen=True, slots=True)
class Duration(LeafType):
    """A time span, kept in milliseconds.

    Written with units (`31.25s`, `2m5s`, `500ms`), as a clock (`00:02:05`), or as a bare integer of centiseconds,
    which is what RouterOS scripts hold (3125 is 31.25 s).
    """

    low_ms: int
    high_ms: int

    def parse(self, raw: object) -> int:
        if isinstance(raw, bool):
            raise LeafError(self.described(), hint="write a number with a unit, such as 31.25s")
        if isinstance(raw, float):
            raise LeafError(self.described(), hint=f"write the unit: {raw}s")
        value_ms = self._read_ms(str(raw).strip())
        if value_ms is None:
            raise LeafError(self.described(), hint="units are h, m, s and ms, largest first: 2m5s, 31.25s, 500ms")
        if not self.low_ms <= value_ms <= self.high_ms:
            bare = re.fullmatch(r"[0-9]+", str(raw).strip())
            meant = f"a bare number is centiseconds, so {raw} is {duration_text(value_ms)}; for seconds write {raw}s" if bare else None
            raise LeafError(self.described(), hint=meant)
        return value_ms

    @staticmethod
    def _read_ms(text: str) -> int | None:
        if re.fullmatch(r"[0-9]{1,12}", text):
            return int(text) * 10  # centiseconds
        if clock := _CLOCK.fullmatch(text):
            hours, minutes, seconds = clock.groups()
            return int(hours) * 3_600_000 + int(minutes) * 60_000 + int(Decimal(seconds) * 1000)
        position, total, last_unit = 0, Decimal(0), 10**9
        while position < len(text):
            part = _DURATION_PART.match(text, position)
            if part is None or _UNIT_MS[part[2]] >= last_unit:
                return None
            try:
                total += Decimal(part[1]) * _UNIT_MS[part[2]]
            except InvalidOperation:  # hundreds of digits
                return None
            last_unit = _UNIT_MS[part[2]]
            position = part.end()
        return int(total) if position and total == total.to_integral_value() and total < 10**15 else None

    def text(self, value: Any) -> str:
        return duration_text(value)

    def described(self) -> str:
        return f"a duration {duration_text(self.low_ms)}..{duration_text(self.high_ms)}"


@dataclass(frozen=True, slots=True)
class Text(LeafType):
    """Text that matches `pattern` as a whole and not `but_not`.

    Both are written in what Python, ECMA-262 (JSON Schema) and XSD (YANG) have in common, save that YANG takes
    `yang_pattern` where control characters are named: XML has none of those.
    """

    pattern: str
    what: str  # completes "expected ..."
    but_not: str | None = None
    yang_pattern: str | None = None  # '': no pattern at all
    max_bytes: int | None = None  # in UTF-8

    def parse(self, raw: object) -> str:
        if isinstance(raw, bool | float) or raw is None:
            raise LeafError(self.what, hint=f"quote it to make it text: '{_said(raw)}'" if raw is not None else None)
        text = str(raw)
        if not re.fullmatch(self.pattern, text) or (self.but_not is not None and re.fullmatch(self.but_not, text)):
            raise LeafError(self.what)
        if self.max_bytes is not None and len(text.encode(errors="replace")) > self.max_bytes:
            raise LeafError(self.what, hint=f"it takes {len(text.encode(errors='replace'))} bytes in UTF-8, the limit is {self.max_bytes}")
        return text

    def described(self) -> str:
        return self.what


# Linux dev_valid_name(): 1..15 octets, no slash, colon or white space, not "." or ".."; patterns are fnmatch's.
_NO_NAME = r"\.{1,2}"
_NAME_BYTES = 15  # IFNAMSIZ - 1


def identifier() -> Text:
    return Text(r"[A-Za-z_][A-Za-z0-9_.\-]{0,62}", "an identifier: a letter or underscore, then letters, digits, '-', '_' or '.'")


def interface_name() -> Text:
    return Text(
        r"[^\s/:*?\[\]\x00-\x20]{1,15}",
        "an interface name of 1..15 characters without spaces, '/', ':' or wildcards",
        _NO_NAME,
        r"[^\s/:*?\[\]]{1,15}",
        _NAME_BYTES,
    )


def interface_pattern() -> Text:
    return Text(
        r"[^\s/:\x00-\x20]{1,15}",
        "an interface name or pattern (ppp*, br-*) of 1..15 characters without spaces, '/' or ':'",
        _NO_NAME,
        r"[^\s/:]{1,15}",
        _NAME_BYTES,
    )


@dataclass(frozen=True, slots=True)
class Enum(LeafType):
    words: tuple[str, ...]
    true_is: str | None = None  # YAML 1.1 reads on/off as booleans; these give the word back
    false_is: str | None = None

    def parse(self, raw: object) -> str:
        if raw is True and self.true_is is not None:
            return self.true_is
        if raw is False and self.false_is is not None:
            return self.false_is
        if isinstance(raw, str) and raw.strip() in self.words:
            return raw.strip()
        raise LeafError(self.described())

    def described(self) -> str:
        return "one of " + ", ".join(self.words)


@dataclass(frozen=True, slots=True)
class IpAddress(LeafType):
    def parse(self, raw: object) -> Address:
        text = str(raw).strip()
        if isinstance(raw, str) and "%" not in text:  # a zone means something on one host only
            try:
                return ipaddress.ip_address(text)
            except ValueError:
                pass
        hint = "leave out the zone ('%...'): the interface is known from where the leaf stands" if "%" in text else None
        raise LeafError(self.described(), hint=hint)

    def described(self) -> str:
        return "an IPv4 or IPv6 address"


@dataclass(frozen=True, slots=True)
class GroupAddress(IpAddress):
    def described(self) -> str:
        return "a multicast group address (224.0.0.0/4 or ff00::/8)"

    def parse(self, raw: object) -> Address:
        address = IpAddress.parse(self, raw)
        if not address.is_multicast:
            raise LeafError(self.described())
        return address


@dataclass(frozen=True, slots=True)
class SourceAddress(IpAddress):
    """A unicast source address, or `*` for any source."""

    def described(self) -> str:
        return "a unicast source address, or '*' for any"

    def parse(self, raw: object) -> Any:
        if raw == ANY_SOURCE:
            return ANY_SOURCE
        address = IpAddress.parse(self, raw)
        if address.is_multicast or address.is_unspecified:
            raise LeafError(self.described())
        return address


@dataclass(frozen=True, slots=True)
class GroupOrAny(GroupAddress):
    """A multicast group, or `*` for every group: the (*,*) entry of the forwarding cache."""

    def described(self) -> str:
        return "a multicast group address, or '*' for any"

    def parse(self, raw: object) -> Any:
        return ANY_SOURCE if raw == ANY_SOURCE else GroupAddress.parse(self, raw)


@dataclass(frozen=True, slots=True)
class IpPrefix(LeafType):
    """A prefix; host bits are refused with the corrected prefix as hint; a bare address is its own /32 or /128."""

    multicast: bool = False

    def parse(self, raw: object) -> Prefix:
        if isinstance(raw, bool | int | float):
            raise LeafError(self.described())
        text = str(raw).strip()
        try:
            prefix = ipaddress.ip_network(text)
        except ValueError:
            hint = None
            try:
                hint = f"host bits are set; did you mean {ipaddress.ip_network(text, strict=False)}?"
            except ValueError:
                pass
            raise LeafError(self.described(), hint=hint) from None
        if self.multicast and not prefix.is_multicast:
            raise LeafError(self.described())
        return prefix

    def described(self) -> str:
        return "a multicast prefix within 224.0.0.0/4 or ff00::/8" if self.multicast else "an IPv4 or IPv6 prefix"


Kind = Literal["leaf", "leaf-list", "container", "list"]


@dataclass(frozen=True, slots=True)
class Node:
    """One named place in the model; `name` is what YAML, XML and paths say, `attr` what Python says."""

    kind: Kind
    meaning: str
    name: str = ""
    attr: str = ""
    type: LeafType | None = None
    default: Any = None  # canonical value (leaf-list: a tuple); None: no default, absent stays absent
    required: bool = False
    inherits: bool = False  # absent takes the instance's value, then the default
    source: str = ""  # RFC section, kernel option or manual section
    cls: Any = None  # container, list: the dataclass of the entry
    key: tuple[str, ...] = ()  # list: names of the key leaves
    user_ordered: bool = False  # order matters and is kept
    numbered: str | None = None  # list: this key leaf is filled by position (1, 2, 3, ...) when absent
    shorthand: str | None = None  # list: an entry written as a scalar is this leaf
    max_elements: int | None = None
    module: str = ""  # YANG module, '' for ours
    is_stored_only: bool = False  # in the datastore of a device, but in no YAML, plan or digest

    @property
    def keeps_order(self) -> bool:
        """Entries stand as the user put them, and no leaf says where."""
        return self.user_ordered and self.numbered is None


def _to_name(attr: str) -> str:
    return re.sub(r"_ms$", "", attr).replace("_", "-")


def leaf(type_: LeafType, meaning: str, *, default: Any = None, required: bool = False, inherits: bool = False, source: str = "", name: str = "") -> Any:
    """A single value; None when absent."""
    node = Node("leaf", meaning, name=name, type=type_, default=default, required=required, inherits=inherits, source=source)
    return dataclasses.field(metadata={"node": node}) if required else dataclasses.field(default=None, metadata={"node": node})


def leaf_list(type_: LeafType, meaning: str, *, default: tuple[Any, ...] = (), source: str = "", user_ordered: bool = False, name: str = "") -> Any:
    """Several values of one type, a tuple without repeats; empty when absent."""
    node = Node("leaf-list", meaning, name=name, type=type_, default=default, source=source, user_ordered=user_ordered)
    return dataclasses.field(default=(), metadata={"node": node})


def container(cls: Any, meaning: str, *, name: str = "", module: str = "", is_stored_only: bool = False) -> Any:
    """A group of nodes without a key; None when it holds nothing."""
    node = Node("container", meaning, name=name, cls=cls, module=module, is_stored_only=is_stored_only)
    return dataclasses.field(default=None, metadata={"node": node})


def keyed_list(
    cls: Any,
    meaning: str,
    *,
    key: tuple[str, ...] = (),
    user_ordered: bool = False,
    numbered: str | None = None,
    shorthand: str | None = None,
    max_elements: int | None = None,
    name: str = "",
) -> Any:
    """Entries told apart by their key leaves: a tuple sorted by key, or in the user's order."""
    node = Node("list", meaning, name=name, cls=cls, key=key, user_ordered=user_ordered, numbered=numbered, shorthand=shorthand, max_elements=max_elements)
    return dataclasses.field(default=(), metadata={"node": node})


def nodes(cls: Any) -> tuple[Node, ...]:
    """The nodes of a model class, in the order of its fields."""
    return _nodes(cls)


def stored_nodes(cls: Any) -> tuple[Node, ...]:
    """As `nodes`, with what only the datastore of a device holds."""
    return _stored_nodes(cls)


@functools.cache
def _nodes(cls: Any) -> tuple[Node, ...]:
    return tuple(n for n in _stored_nodes(cls) if not n.is_stored_only)


@functools.cache
def _stored_nodes(cls: Any) -> tuple[Node, ...]:
    return tuple(
        dataclasses.replace(
            field.metadata["node"],
            attr=field.name,
            name=field.metadata["node"].name or _to_name(field.name),
            module=field.metadata["node"].module or getattr(cls, "YANG_MODULE", ""),
        )
        for field in dataclasses.fields(cls)
    )


def node(cls: Any, name: str) -> Node | None:
    """The node of `cls` that is called `name` in YAML and XML, or None."""
    return _by_name(cls).get(name)


@functools.cache
def _by_name(cls: Any) -> dict[str, Node]:
    return {n.name: n for n in nodes(cls)}


def sort_key(value: Any) -> tuple[Any, ...]:
    """A total order over canonical values of mixed types, so that keyed lists have one order only."""
    if isinstance(value, bool | int):
        return (0, int(value), "")
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return (1, value.version, int(value))
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return (2, value.version, int(value.network_address), value.prefixlen)
    return (3, str(value))


def entry_key(list_node: Node, entry: Any) -> tuple[Any, ...]:
    """The key values of a list entry, in the order of `list_node.key`."""
    return tuple(getattr(entry, _attr(list_node.cls, name)) for name in list_node.key)


@functools.cache
def _attr(cls: Any, name: str) -> str:
    return _by_name(cls)[name].attr

"""The messages of NETCONF as values: hello, rpc, rpc-reply, rpc-error (RFC 6241 3, 4, 8.1).

Reading is strict about namespaces and lenient about everything that XML allows (prefixes, comments, CDATA, white
space).  This file knows no operation; what an `<rpc>` asks for is `agent/dispatch.py`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast
from xml.etree.ElementTree import Element

from igmpconf.ids import SessionId
from igmpconf.xmltext import Parsed, parse_document, serialize

BASE = "urn:ietf:params:xml:ns:netconf:base:1.0"
BASE_1_0 = "urn:ietf:params:netconf:base:1.0"
BASE_1_1 = "urn:ietf:params:netconf:base:1.1"
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
MAX_SESSION_ID = 2**32 - 1

ErrorType = Literal["transport", "rpc", "protocol", "application"]

# Elements whose text has prefixes: identities, and paths of access rules.
NAMES_IN_TEXT = frozenset(
    f"{{urn:ietf:params:xml:ns:yang:{module}}}{name}"
    for module, name in (
        ("ietf-netconf-acm", "path"),
        ("ietf-netconf-monitoring", "format"),
        ("ietf-netconf-nmda", "datastore"),
        ("ietf-netconf-nmda", "origin-filter"),
        ("ietf-netconf-nmda", "negated-origin-filter"),
    )
)

# RFC 6241 appendix A: which types a tag may have, and which error-info it must carry.
ERROR_TAGS: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {
    tag: (frozenset(types.split()), tuple(info.split()))
    for tag, types, info in (
        ("in-use", "protocol application", ""),
        ("invalid-value", "protocol application", ""),
        ("too-big", "transport rpc protocol application", ""),
        ("missing-attribute", "rpc protocol application", "bad-attribute bad-element"),
        ("bad-attribute", "rpc protocol application", "bad-attribute bad-element"),
        ("unknown-attribute", "rpc protocol application", "bad-attribute bad-element"),
        ("missing-element", "protocol application", "bad-element"),
        ("bad-element", "protocol application", "bad-element"),
        ("unknown-element", "protocol application", "bad-element"),
        ("unknown-namespace", "protocol application", "bad-element bad-namespace"),
        ("access-denied", "protocol application", ""),
        ("lock-denied", "protocol", "session-id"),
        ("resource-denied", "transport rpc protocol application", ""),
        ("rollback-failed", "protocol application", ""),
        ("data-exists", "application", ""),
        ("data-missing", "application", ""),
        ("operation-not-supported", "protocol application", ""),
        ("operation-failed", "rpc protocol application", ""),
        ("malformed-message", "rpc", ""),
    )
}


@dataclass(frozen=True, slots=True)
class RpcError:
    """One `<rpc-error>` (RFC 6241 4.3); `info` is (element name, text) of error-info, names of other namespaces in Clark notation."""

    type: ErrorType
    tag: str
    severity: Literal["error", "warning"] = "error"
    app_tag: str | None = None
    path: str | None = None  # XPath; its prefixes are those of `prefixes`
    message: str | None = None
    info: tuple[tuple[str, str], ...] = ()
    prefixes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        types, mandatory = ERROR_TAGS[self.tag]
        assert self.type in types, f"{self.tag} is no {self.type} error"
        assert set(mandatory) <= {name for name, _ in self.info}, f"{self.tag} needs {mandatory}"


class RpcRefused(Exception):  # carries the answer, in place of the answer
    """An operation ends with these errors as its reply."""

    def __init__(self, *errors: RpcError) -> None:
        super().__init__("; ".join(f"{error.type}/{error.tag}: {error.message}" for error in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Rpc:
    """An `<rpc>` that can be answered: its one operation, and what the reply must repeat (RFC 6241 4.1, 4.2)."""

    operation: Element
    attributes: tuple[tuple[str, str], ...]
    namespaces: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Hello:
    capabilities: frozenset[str]  # without their parameters
    has_session_id: bool


class NotAnswerable(ValueError):
    """The message is neither hello nor rpc; only closing is left."""


def local_name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def namespace(element: Element) -> str:
    return element.tag[1:].partition("}")[0] if element.tag.startswith("{") else ""


def text_of(element: Element) -> str:
    """Its character data without surrounding white space."""
    return (element.text or "").strip()


# hello


def hello(session: SessionId, capabilities: Iterable[str]) -> bytes:
    """The server's first message (RFC 6241 8.1)."""
    root = Element(f"{{{BASE}}}hello")
    listed = _child(root, f"{{{BASE}}}capabilities")
    for capability in capabilities:
        _child(listed, f"{{{BASE}}}capability", capability)
    _child(root, f"{{{BASE}}}session-id", str(session))
    return serialize(root, declaration=True)


def read_hello(message: bytes) -> Hello:
    """The client's first message.  Raises NotAnswerable, XmlTextError."""
    root = parse_document(message.strip()).root
    if root.tag != f"{{{BASE}}}hello":
        raise NotAnswerable(f"expected <hello> in {BASE}, got {root.tag}")
    found = root.findall(f"{{{BASE}}}capabilities/{{{BASE}}}capability")
    return Hello(frozenset(text_of(one).partition("?")[0] for one in found), root.find(f"{{{BASE}}}session-id") is not None)


# rpc and its reply


def read_rpc(message: bytes) -> Rpc:
    """An `<rpc>` (RFC 6241 4.1).  Raises NotAnswerable, XmlTextError, and RpcRefused with what it must be told."""
    parsed = parse_document(message.strip(), names_in_text=NAMES_IN_TEXT)
    root = parsed.root
    if local_name(root) == "hello":
        raise NotAnswerable("a second hello")
    if local_name(root) != "rpc":
        raise NotAnswerable(f"expected <rpc>, got {root.tag}")
    if namespace(root) != BASE:
        info = (("bad-element", "rpc"), ("bad-namespace", namespace(root)))
        raise RpcRefused(RpcError("protocol", "unknown-namespace", message=f"<rpc> belongs to {BASE}", info=info))
    if "message-id" not in root.attrib:
        info = (("bad-attribute", "message-id"), ("bad-element", "rpc"))
        raise RpcRefused(RpcError("rpc", "missing-attribute", message="<rpc> needs a message-id", info=info))
    operations = list(root)
    rpc = Rpc(operations[0] if operations else root, tuple(root.attrib.items()), _echoed(parsed))
    if len(operations) != 1:
        wanted = "holds no operation" if not operations else "holds more than one operation"
        tag, name = ("missing-element", "operation") if not operations else ("bad-element", local_name(operations[1]))
        raise RefusedRpc(rpc, RpcError("protocol", tag, message=f"<rpc> {wanted}", info=(("bad-element", name),)))
    return rpc


class RefusedRpc(RpcRefused):
    """As RpcRefused, when it is known what the reply must repeat."""

    def __init__(self, rpc: Rpc, *errors: RpcError) -> None:
        super().__init__(*errors)
        self.rpc = rpc


def _echoed(parsed: Parsed) -> tuple[tuple[str, str], ...]:
    return parsed.namespaces


def reply(rpc: Rpc | None, content: Sequence[Element]) -> bytes:
    """`<rpc-reply>` with everything that its rpc's start tag had; without rpc, of a message that had no readable one."""
    root = Element(f"{{{BASE}}}rpc-reply", dict(rpc.attributes) if rpc is not None else {})
    root.extend(content)
    return serialize(root, dict(rpc.namespaces) if rpc is not None else {"": BASE}, declaration=True)


def ok() -> list[Element]:
    return [Element(f"{{{BASE}}}ok")]


def data(content: Iterable[Element]) -> list[Element]:
    root = Element(f"{{{BASE}}}data")
    root.extend(content)
    return [root]


def errors(found: Iterable[RpcError]) -> list[Element]:
    return [_error_element(error) for error in found]


def _error_element(error: RpcError) -> Element:
    """The children in the order of the schema (RFC 6241 appendix B)."""
    root = Element(f"{{{BASE}}}rpc-error")
    _child(root, f"{{{BASE}}}error-type", error.type)
    _child(root, f"{{{BASE}}}error-tag", error.tag)
    _child(root, f"{{{BASE}}}error-severity", error.severity)
    if error.app_tag is not None:
        _child(root, f"{{{BASE}}}error-app-tag", error.app_tag)
    if error.path is not None:
        path = _child(root, f"{{{BASE}}}error-path", error.path)
        for prefix, uri in error.prefixes:
            path.set(f"xmlns:{prefix}", uri)
    if error.message is not None:
        _child(root, f"{{{BASE}}}error-message", error.message).set(XML_LANG, "en")
    if error.info:
        info = _child(root, f"{{{BASE}}}error-info")
        for name, text in error.info:
            _child(info, name if name.startswith("{") else f"{{{BASE}}}{name}", text)
    return root


def _child(parent: Element, tag: str, text: str | None = None) -> Element:
    child = Element(tag)
    child.text = text
    parent.append(child)
    return child


def invalid_value(message: str, *, error_type: Literal["protocol", "application"] = "protocol") -> RpcRefused:
    return RpcRefused(RpcError(cast("ErrorType", error_type), "invalid-value", message=message))


def missing_element(name: str, parent: str) -> RpcRefused:
    return RpcRefused(RpcError("protocol", "missing-element", message=f"<{parent}> needs <{name}>", info=(("bad-element", name),)))


def bad_element(name: str, message: str) -> RpcRefused:
    return RpcRefused(RpcError("protocol", "bad-element", message=message, info=(("bad-element", name),)))


def unknown_element(name: str, parent: str) -> RpcRefused:
    return RpcRefused(RpcError("protocol", "unknown-element", message=f"<{parent}> has no <{name}>", info=(("bad-element", name),)))


def bad_attribute(attribute: str, element: str, message: str) -> RpcRefused:
    return RpcRefused(RpcError("protocol", "bad-attribute", message=message, info=(("bad-attribute", attribute), ("bad-element", element))))


def not_supported(message: str) -> RpcRefused:
    return RpcRefused(RpcError("protocol", "operation-not-supported", message=message))

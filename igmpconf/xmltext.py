"""XML text to `xml.etree` elements and back: the one place that reads or writes angle brackets.

Names are in Clark notation, `{urn:x}leaf`.  Only what NETCONF needs is understood (RFC 6241 3): UTF-8, namespaces,
no document type, hence no entities; comments and processing instructions are dropped.  Prefixes are gone once names
are read, save where the caller says that the text of an element has names too: then the declarations in scope stay
with it, as attributes called `xmlns:p`.  Size, depth and number of elements are bounded, because bytes come from
whoever can open a session.  Knows nothing of NETCONF or of the model.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import NoReturn
from xml.etree.ElementTree import Element
from xml.parsers import expat

MAX_BYTES = 64 * 1024 * 1024  # a state of 10,000 groups with hosts is about 10 MiB
MAX_DEPTH = 64  # the deepest node of our model stands at 8, inside rpc/edit-config/config
MAX_ELEMENTS = 2_000_000

_XML_NAMESPACE = "http://www.w3.org/XML/1998/namespace"
# Prefixes that readers expect, for attributes whose namespace nobody declared.
_USUAL_PREFIX = {
    "urn:ietf:params:xml:ns:netconf:base:1.0": "nc",
    "urn:ietf:params:xml:ns:yang:1": "yang",
    "urn:ietf:params:xml:ns:netconf:default:1.0": "wd",
}


class XmlTextError(ValueError):
    """The text is not XML that we accept: `reason` is malformed, doctype or too-big; `line` and `column` count from 1."""

    def __init__(self, message: str, line: int, column: int, reason: str = "malformed") -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document: `namespaces` are the declarations on the root as (prefix, URI), the default one with prefix ''."""

    root: Element
    namespaces: tuple[tuple[str, str], ...]


def parse(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH, max_elements: int = MAX_ELEMENTS) -> Element:
    """The root element of an XML document in UTF-8.  Raises XmlTextError."""
    return parse_document(data, max_bytes=max_bytes, max_depth=max_depth, max_elements=max_elements).root


def parse_document(
    data: bytes,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_elements: int = MAX_ELEMENTS,
    names_in_text: Container[str] = frozenset(),
) -> Parsed:
    """As `parse`, with the root's namespace declarations, which `<rpc-reply>` must repeat (RFC 6241 4.2).

    `names_in_text` are the tags of elements whose text holds prefixes: they get the declarations in scope as attributes.
    """
    if len(data) > max_bytes:
        raise XmlTextError(f"the document has {len(data)} bytes, the limit is {max_bytes}", 1, 1, "too-big")
    builder = _Builder(max_depth, max_elements, names_in_text)
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise XmlTextError(expat.ErrorString(error.code), error.lineno, error.offset + 1) from None
    except UnicodeError:  # a declared encoding that this Python does not have
        raise XmlTextError("the text is not UTF-8", 1, 1) from None
    assert builder.root is not None  # expat refuses a document without a root
    return Parsed(builder.root, tuple(builder.root_namespaces))


class _Builder:
    """Expat's callbacks; one document, then thrown away."""

    def __init__(self, max_depth: int, max_elements: int, names_in_text: Container[str]) -> None:
        self.root: Element | None = None
        self.root_namespaces: list[tuple[str, str]] = []
        self._open: list[Element] = []
        self._closed: Element | None = None  # the element that character data now follows as its tail
        self._text: list[str] = []
        self._max_depth = max_depth
        self._left = max_elements
        self._names: dict[str, str] = {}
        self._names_in_text = names_in_text
        self._scope: dict[str, list[str]] = {}  # prefix -> URIs, the innermost last
        self.parser = parser = expat.ParserCreate("utf-8", "}")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartNamespaceDeclHandler = self._declare
        parser.EndNamespaceDeclHandler = self._undeclare
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype

    def _refuse(self, message: str, reason: str) -> NoReturn:
        raise XmlTextError(message, self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1, reason)

    def _doctype(self, *_: object) -> None:
        self._refuse("a document type declaration is not allowed (RFC 6241 3)", "doctype")

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        if self.root is None:
            self.root_namespaces.append((prefix or "", uri or ""))
        if prefix:
            self._scope.setdefault(prefix, []).append(uri or "")

    def _undeclare(self, prefix: str | None) -> None:
        if prefix:
            self._scope[prefix].pop()

    def _clark(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = "{" + name if "}" in name else name
        return known

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._flush()
        self._left -= 1
        if self._left < 0:
            self._refuse("too many elements", "too-big")
        if len(self._open) >= self._max_depth:
            self._refuse(f"elements are nested more than {self._max_depth} deep", "too-big")
        element = Element(self._clark(name), {self._clark(key): value for key, value in attributes.items()} if attributes else {})
        if element.tag in self._names_in_text:
            for prefix, uris in self._scope.items():
                if uris:
                    element.set(f"xmlns:{prefix}", uris[-1])
        if self._open:
            self._open[-1].append(element)
        else:
            self.root = element
        self._open.append(element)
        self._closed = None

    def _end(self, _: str) -> None:
        self._flush()
        self._closed = self._open.pop()

    def _flush(self) -> None:
        if not self._text:
            return
        text = "".join(self._text)
        self._text.clear()
        if self._closed is not None:
            self._closed.tail = text
        elif self._open:
            self._open[-1].text = text


# What XML 1.0 cannot hold at all (section 2.2), lone surrogates included; a reply must stay well-formed whatever a name holds.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_IN_TEXT = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_IN_ATTRIBUTE = re.compile('[&<>"\t\n\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
    return _FORBIDDEN.sub("\ufffd", text)


def _attribute(value: str) -> str:
    if _IN_ATTRIBUTE.search(value) is None:
        return value
    return _escaped(value).replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")


def serialize(element: Element, prefixes: Mapping[str, str] | None = None, *, declaration: bool = False) -> bytes:
    """UTF-8 text of an element tree, without tails of the root.

    Elements are written without prefix, with `xmlns` where the namespace changes.  `prefixes` (prefix to URI, '' for
    the default namespace) are declared on the root, used or not.  An attribute called `xmlns:p` declares a prefix that
    text content needs (error-path).  Characters that XML cannot hold become U+FFFD.  `parse(serialize(e))` equals e.
    """
    out: list[str] = ['<?xml version="1.0" encoding="UTF-8"?>'] if declaration else []
    declared = {prefix: uri for prefix, uri in (prefixes or {}).items() if uri and prefix != "xml" and f"xmlns:{prefix}" not in element.attrib}
    uri, _ = _split(element.tag)
    default = declared.get("", uri)
    if not uri:
        default = ""  # a root without namespace cannot live under a default one
        declared.pop("", None)
    elif default != uri and uri not in {declared[p] for p in declared if p}:
        declared[_fresh(uri, declared)] = uri
    scope = {prefix: bound for prefix, bound in declared.items() if prefix}
    declarations = "".join(f' xmlns:{prefix}="{_attribute(bound)}"' for prefix, bound in declared.items() if prefix)
    if default:
        declarations = f' xmlns="{_attribute(default)}"' + declarations
    _write(out, element, default, scope, declarations)
    return "".join(out).encode()


def _split(tag: str) -> tuple[str, str]:
    if tag[:1] == "{":
        uri, _, local = tag[1:].rpartition("}")
        return uri, local
    return "", tag


def _fresh(uri: str, taken: Mapping[str, str]) -> str:
    wanted = _USUAL_PREFIX.get(uri, "ns")
    number = 0
    prefix = wanted
    while prefix in taken:
        number += 1
        prefix = f"{wanted}{number}"
    return prefix


def _write(out: list[str], element: Element, default: str, scope: dict[str, str], declarations: str) -> None:
    uri, local = _split(element.tag)
    if uri == default:
        name = local
    elif declarations and (prefix := _bound(uri, scope)) is not None:  # the root, below somebody else's default namespace
        name = f"{prefix}:{local}"
    else:
        name, default = local, uri
        declarations += f' xmlns="{_attribute(uri)}"'
    opening = f"<{name}{declarations}"
    if element.attrib:
        written, scope = _attributes(element.attrib, scope)
        opening += written
    text = element.text
    if text is not None and _IN_TEXT.search(text) is not None:
        text = _escaped(text)
    if len(element) == 0:
        out.append(f"{opening}>{text}</{name}>" if text else f"{opening}/>")
        return
    out.append(f"{opening}>{text}" if text else f"{opening}>")
    for child in element:
        _write(out, child, default, scope, "")
        if child.tail:
            out.append(_escaped(child.tail))
    out.append(f"</{name}>")


def _bound(uri: str, scope: Mapping[str, str]) -> str | None:
    return next((prefix for prefix, bound in scope.items() if bound == uri), None)


def _attributes(attributes: Mapping[str, str], scope: dict[str, str]) -> tuple[str, dict[str, str]]:
    written: list[str] = []
    for key, value in attributes.items():
        if key.startswith("xmlns:") and scope.get(key[6:]) != value:
            scope = {**scope, key[6:]: value}
            written.append(f' {key}="{_attribute(value)}"')
    for key, value in attributes.items():
        if key.startswith("xmlns:"):
            continue
        uri, local = _split(key)
        if uri == _XML_NAMESPACE:
            local = f"xml:{local}"
        elif uri:
            prefix = _bound(uri, scope)
            if prefix is None:
                prefix = _fresh(uri, scope)
                scope = {**scope, prefix: uri}
                written.append(f' xmlns:{prefix}="{_attribute(uri)}"')
            local = f"{prefix}:{local}"
        written.append(f' {local}="{_attribute(value)}"')
    return "".join(written), scope

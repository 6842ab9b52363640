"""XML text: what is refused, what survives, and what a reply must repeat."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igmpconf.xmltext import Parsed, XmlTextError, parse, parse_document, serialize

BASE = "urn:ietf:params:xml:ns:netconf:base:1.0"


def same(a: Element, b: Element) -> bool:
    return (
        a.tag == b.tag
        and dict(a.attrib) == dict(b.attrib)
        and (a.text or "") == (b.text or "")
        and (a.tail or "") == (b.tail or "")
        and len(a) == len(b)
        and all(same(x, y) for x, y in zip(a, b, strict=True))
    )


def test_names_are_in_clark_notation_whatever_the_prefix():
    for text in (b'<rpc xmlns="urn:a" b="1"><x>t</x></rpc>', b'<p:rpc xmlns:p="urn:a" b="1"><p:x>t</p:x></p:rpc>'):
        root = parse(text)
        assert (root.tag, root.get("b"), root[0].tag, root[0].text) == ("{urn:a}rpc", "1", "{urn:a}x", "t")


def test_comments_instructions_cdata_and_leading_blanks_are_read_through():
    root = parse(b"\n <?x y?><!-- c --><a>1<!-- 2 -->3<![CDATA[<&]]><b/>tail<!-- -->s</a>".strip())
    assert (root.text, root[0].tail) == ("13<&", "tails")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "doctype"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "doctype"),
        (b"<a>&x;</a>", "malformed"),
        (b"<a>", "malformed"),
        (b"", "malformed"),
        (b"<a/><b/>", "malformed"),
        (b"<p:a/>", "malformed"),
        (b"<a>\xff</a>", "malformed"),
        (b"<a>\x00</a>", "malformed"),
        (b"<a>" * 65, "too-big"),
        (b"<a>" + b"<b/>" * 11 + b"</a>", "too-big"),
        (b"<a>" + b" " * 100 + b"</a>", "too-big"),
    ],
)
def test_refused(text, reason):
    with pytest.raises(XmlTextError) as caught:
        parse(text, max_elements=100 if text.startswith(b"<a><a>") else 10, max_bytes=70 if b"   " in text else 1000)
    assert caught.value.reason == reason
    assert caught.value.line >= 1
    assert caught.value.column >= 1


def test_an_error_tells_its_place():
    with pytest.raises(XmlTextError) as caught:
        parse(b"<a>\n  <b></c>\n</a>")
    assert (caught.value.line, caught.value.column) == (2, 8)


@pytest.mark.parametrize(
    "text",
    [
        f'<rpc-reply xmlns="{BASE}" message-id="1"/>',
        f'<rpc-reply xmlns="{BASE}" xmlns:ic="urn:ic" message-id="a&amp;&quot;1"><data><x xmlns="urn:ic">1</x></data></rpc-reply>',
        f'<nc:rpc-reply xmlns="urn:other" xmlns:nc="{BASE}"><ok xmlns="{BASE}"/></nc:rpc-reply>',
        "<a><b/></a>",
        '<a xmlns="urn:a"><b xmlns=""><c xmlns="urn:a"/></b></a>',
    ],
)
def test_a_document_is_written_as_it_was_read_with_its_declarations(text):
    document = parse_document(text.encode())
    assert serialize(document.root, dict(document.namespaces)).decode() == text


def test_declarations_without_use_are_kept():
    document = parse_document(f'<nc:rpc xmlns:nc="{BASE}" xmlns:u="urn:unused" u:x="1"/>'.encode())
    assert document.namespaces == (("nc", BASE), ("u", "urn:unused"))
    again = parse_document(serialize(document.root, dict(document.namespaces)))
    assert set(document.namespaces) <= set(again.namespaces)
    assert same(again.root, document.root)


def test_attributes_in_a_namespace_get_a_prefix_and_text_may_ask_for_one():
    root = Element("{urn:a}leaf", {f"{{{BASE}}}operation": "delete", "{http://www.w3.org/XML/1998/namespace}lang": "en", "xmlns:ic": "urn:ic"})
    root.text = "/ic:x"
    assert serialize(root).decode() == f'<leaf xmlns="urn:a" xmlns:ic="urn:ic" xmlns:nc="{BASE}" nc:operation="delete" xml:lang="en">/ic:x</leaf>'


def test_a_taken_prefix_is_not_taken_again():
    root = Element("{urn:a}x", {"xmlns:nc": "urn:not-base", f"{{{BASE}}}operation": "merge", "{urn:not-base}y": "1"})
    assert parse(serialize(root)).attrib == {f"{{{BASE}}}operation": "merge", "{urn:not-base}y": "1"}


def test_what_xml_cannot_hold_is_replaced_not_sent():
    root = Element("a", {"b": "\x01"})
    root.text = "x\x00\ud800y"
    again = parse(serialize(root))
    assert (again.text, again.get("b")) == ("x\ufffd\ufffdy", "\ufffd")


def test_ten_thousand_rows_are_written_and_read():
    root = Element("{urn:a}state")
    for i in range(10_000):
        row = SubElement(root, "{urn:a}groups")
        for name in ("instance", "interface", "group", "mode", "version", "expires"):
            SubElement(row, f"{{urn:a}}{name}").text = f"{name}{i}"
    text = serialize(root)
    assert text.count(b"xmlns") == 1
    assert same(parse(text), root)


_TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from("\t\n\r"), max_size=8)
_NAMES = st.sampled_from(["a", "b-c", "{urn:x}a", "{urn:y}d", "{urn:x}e.f"])


@st.composite
def trees(draw, depth=3):
    element = Element(draw(_NAMES), draw(st.dictionaries(_NAMES, _TEXTS, max_size=2)))
    element.text = draw(_TEXTS)
    for _ in range(draw(st.integers(0, 2 if depth else 0))):
        child = draw(trees(depth - 1))
        child.tail = draw(_TEXTS)
        element.append(child)
    return element


@given(trees(), st.dictionaries(st.sampled_from(["", "p", "nc", "ns"]), st.sampled_from(["urn:x", "urn:y", "urn:z"])))
def test_parse_after_serialize_is_the_identity(tree, prefixes):
    assert same(parse(serialize(tree, prefixes)), tree)


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_raise_one_error(data):
    try:
        assert isinstance(parse_document(data), Parsed)
    except XmlTextError:
        pass


def test_a_prefix_declared_twice_is_written_once():
    root = Element("{urn:a}x", {"xmlns:ic": "urn:ic"})
    SubElement(root, "{urn:a}y", {"xmlns:ic": "urn:ic"})
    assert serialize(root, {"ic": "urn:other"}) == b'<x xmlns="urn:a" xmlns:ic="urn:ic"><y/></x>'

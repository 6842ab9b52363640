"""Subtree filters over element trees (RFC 6241 6), in time linear in data plus filter.

A filter is compiled once: sibling filter nodes are looked up by name, and those with a content match by the first of
them, so that a filter with a thousand list keys over ten thousand entries is no product of the two.  The result
shares elements with the data and must not be changed.  Knows nothing of schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from igmpconf.netconf.messages import local_name, namespace, text_of

Selected = Callable[[Element], None]


def filtered(data: Iterable[Element], subtree: Element, selected: Selected | None = None) -> list[Element]:
    """The part of `data` that the children of `subtree`, a `<filter>`, select; an empty filter selects nothing (6.4.2).

    `selected` is told of each element that is selected with all that it holds, as opposed to what leads there.
    """
    wanted = _compiled(list(subtree))
    found = [_selected(one, wanted.candidates(one), selected) for one in data]
    return [one for one in found if one is not None]


@dataclass(slots=True)
class _Test:
    """One filter node: what a data node must be, and what of it is selected."""

    namespace: str  # '' matches any (6.2.1)
    attributes: tuple[tuple[str, str], ...]  # all must match (6.2.2)
    contents: tuple[tuple[str, str, str], ...]  # namespace, name, text of content match children (6.2.5)
    selects_all: bool  # a selection node (6.2.4), or content matches alone
    inner: _Siblings

    def matches(self, element: Element) -> bool:
        if self.namespace not in {"", namespace(element)}:
            return False
        if any(element.get(name) != value for name, value in self.attributes):
            return False
        return all(any(_is_content(child, *content) for child in element) for content in self.contents)


@dataclass(slots=True)
class _Siblings:
    """The filter nodes below one parent, by the name of the data nodes they speak of."""

    plain: dict[str, list[_Test]] = field(default_factory=dict)
    by_content: dict[str, dict[tuple[str, str], list[_Test]]] = field(default_factory=dict)
    content_names: frozenset[tuple[str, str]] = frozenset()  # (namespace or '', name): leaves that come along

    def candidates(self, element: Element) -> list[_Test]:
        name = local_name(element)
        found = list(self.plain.get(name, ()))
        keyed = self.by_content.get(name)
        if keyed is not None:
            for child in element:
                found += keyed.get((local_name(child), text_of(child)), ())
        return found


def _compiled(nodes: Sequence[Element]) -> _Siblings:
    siblings = _Siblings()
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    content_names = set()
    for node in nodes:
        if len(node) == 0 and text_of(node):
            content_names.add((namespace(node), local_name(node)))
            continue
        attributes = tuple((name, value) for name, value in node.attrib.items() if not name.startswith("xmlns:"))
        if len(node) == 0:
            # The same selection twice selects nothing more.
            if (node.tag, attributes) in seen:
                continue
            seen.add((node.tag, attributes))
        contents = tuple((namespace(child), local_name(child), text_of(child)) for child in node if len(child) == 0 and text_of(child))
        test = _Test(namespace(node), attributes, contents, len(contents) == len(node), _compiled(list(node)))
        if contents:
            _, name, text = contents[0]
            siblings.by_content.setdefault(local_name(node), {}).setdefault((name, text), []).append(test)
        else:
            siblings.plain.setdefault(local_name(node), []).append(test)
    siblings.content_names = frozenset(content_names)
    return siblings


def _is_content(child: Element, wanted_namespace: str, name: str, text: str) -> bool:
    return local_name(child) == name and wanted_namespace in {"", namespace(child)} and text_of(child) == text


def _selected(element: Element, candidates: list[_Test], told: Selected | None) -> Element | None:
    """`element` itself when all of it is selected, a copy with the selected children, or None."""
    tests = [test for test in candidates if test.matches(element)]
    if any(test.selects_all for test in tests):
        if told is not None:
            told(element)
        return element
    if not tests:
        return None
    kept = []
    for child in element:
        if any(_comes_along(child, test) for test in tests):
            kept.append(child)
            continue
        below = [candidate for test in tests for candidate in test.inner.candidates(child)]
        selected = _selected(child, below, told)
        if selected is not None:
            kept.append(selected)
    if not kept:
        return None
    copy = Element(element.tag, dict(element.attrib))
    copy.extend(kept)
    return copy


def _comes_along(child: Element, test: _Test) -> bool:
    """A content match leaf is part of the result (6.2.5); of a leaf-list, the value that matched."""
    names = test.inner.content_names
    if not names or not ({("", local_name(child)), (namespace(child), local_name(child))} & names):
        return False
    return any(_is_content(child, *content) for content in test.contents)

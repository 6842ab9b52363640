"""Where things stand: places in a YAML tree, keyed paths, and marks, each from the other; and trees laid over another.

A place is a way through the document (keys and positions), a keyed path a way through the model; a list written as
its single element has no position.  Controller only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from igmpconf.model.canon import Place
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import LeafError, Node, node
from igmpconf.model.path import Path, Step, path_text
from igmpconf.schema.diagnostic import Diagnostic
from igmpconf.schema.document import Listing, Mapping, Mark, Scalar, Tree


class Places:
    """One document."""

    def __init__(self, tree: Tree) -> None:
        self._root = tree
        self._by_path: dict[str, Place] = {}
        self._files: list[str] = []  # in the order they were laid over one another, as far as it can be seen
        self._index(DeviceConfig, tree, (), ())

    def _index(self, cls: Any, tree: Tree, place: Place, path: Path) -> None:
        self._by_path.setdefault(path_text(path), place)
        if tree.mark.file not in self._files:
            self._files.append(tree.mark.file)
        if cls is None or not isinstance(tree, Mapping):
            return
        for name, (_, value) in tree.items.items():
            n = node(cls, name)
            here: Place = (*place, name)
            if n is None or n.kind != "list":
                self._index(n.cls if n is not None else None, value, here, (*path, Step(name)))
                continue
            self._by_path.setdefault(path_text((*path, Step(name))), here)
            if isinstance(value, Listing):
                for i, entry in enumerate(value.items):
                    self._index(n.cls, entry, (*here, i), (*path, Step(name, entry_key_texts(n, entry, i))))
            else:
                self._index(n.cls, value, here, (*path, Step(name, entry_key_texts(n, value, 0))))

    def tree(self, place: Place) -> Tree:
        """What stands at `place`, or the nearest thing around it."""
        return self._walk(place)[1]

    def mark(self, place: Place) -> Mark:
        """Where the value at `place` begins."""
        return self._walk(place)[1].mark

    def key_mark(self, place: Place) -> Mark:
        """Where the key stands whose value is at `place`."""
        return self._walk(place)[0]

    def _walk(self, place: Place) -> tuple[Mark, Tree]:
        key, tree = self._root.mark, self._root
        for step in place:
            if isinstance(tree, Mapping) and step in tree.items:
                key, tree = tree.items[str(step)]
            elif isinstance(tree, Listing) and isinstance(step, int) and step < len(tree.items):
                tree = tree.items[step]
                key = tree.mark
            else:
                break
        return key, tree

    def first(self, path: str) -> Place | None:
        """The first place that has this keyed path."""
        return self._by_path.get(path)

    def path(self, place: Place) -> str:
        """The keyed path of a place; keys are canonical where they could be read."""
        cls: Any = DeviceConfig
        tree = self._root
        path: list[Step] = []
        open_list: Node | None = None  # a list whose entry is not known yet
        for step in place:
            if isinstance(step, int) and isinstance(tree, Listing) and step < len(tree.items):
                tree = tree.items[step]
                if open_list is not None:
                    path[-1] = Step(open_list.name, entry_key_texts(open_list, tree, step))
                    open_list = None
                continue
            if open_list is not None:
                path[-1] = Step(open_list.name, entry_key_texts(open_list, tree, 0))
                open_list = None
            n = node(cls, str(step)) if cls is not None else None
            path.append(Step(str(step)))
            cls = n.cls if n is not None else None
            open_list = n if n is not None and n.kind == "list" else None
            tree = tree.items[str(step)][1] if isinstance(tree, Mapping) and str(step) in tree.items else tree
        if open_list is not None and not isinstance(tree, Listing):
            path[-1] = Step(open_list.name, entry_key_texts(open_list, tree, 0))
        return path_text(tuple(path))

    def put(self, finding: Diagnostic) -> Diagnostic:
        """The finding with the position of its path, or of the nearest thing around it.

        Of several places that it is about, the one that was written last: what was right before became wrong there.
        """
        about = [finding.path, *finding.related]
        last = max(about, key=lambda path: self._order(self._nearest(path)))
        mark = self._nearest(last)
        related = tuple(path for path in about if path != last)
        return replace(finding, path=last, related=related, file=mark.file, line=mark.line, column=mark.column)

    def _nearest(self, path: str) -> Mark:
        while path and path not in self._by_path:
            path = _parent(path)
        return self.mark(self._by_path.get(path, ()))

    def _order(self, mark: Mark) -> tuple[int, int, int]:
        return self._files.index(mark.file) if mark.file in self._files else len(self._files), mark.line, mark.column


def _parent(path: str) -> str:
    """The path without its last step; slashes inside brackets belong to keys."""
    depth = 0
    for i in range(len(path) - 1, -1, -1):
        sign = path[i]
        escaped = i > 0 and path[i - 1] == "\\"
        depth += (sign == "]" and not escaped) - (sign == "[" and not escaped)
        if sign == "/" and depth == 0:
            return path[:i]
    return ""


def entry_key_texts(n: Node, entry: Tree, position: int) -> tuple[str, ...]:
    """The key of an entry as a path writes it: canonical where it can be read, else as written, '?' where it is missing."""
    texts: list[str] = []
    for name in n.key:
        leaf = node(n.cls, name)
        assert leaf is not None
        assert leaf.type is not None
        value: Tree | None = None
        if isinstance(entry, Mapping):
            value = entry.items[name][1] if name in entry.items else None
        elif isinstance(entry, Scalar) and n.shorthand == name:
            value = entry
        if isinstance(value, Scalar):
            try:
                texts.append(leaf.type.text(leaf.type.parse(value.value)))
            except LeafError:
                texts.append(value.written)
        elif n.numbered == name:
            texts.append(str(position + 1))
        else:
            texts.append(leaf.type.text(leaf.default) if leaf.default is not None else "?")
    return tuple(texts)


def merged(cls: Any, below: Tree, above: Tree) -> Tree:
    """`above` laid over `below`: mappings by name, entries of lists by key, everything else replaced."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    items = dict(below.items)
    for name, (key_mark, value) in above.items.items():
        n = node(cls, name)
        if n is None or name not in items or n.cls is None:
            items[name] = (key_mark, value)
        elif n.kind == "list":
            items[name] = (items[name][0], _merged_list(n, items[name][1], value))
        else:
            items[name] = (items[name][0], merged(n.cls, items[name][1], value))
    return Mapping(items, below.mark)


def _merged_list(n: Node, below: Tree, above: Tree) -> Tree:
    entries = [*_entries(below)]
    inherited = len(entries)
    keys = {entry_key_texts(n, entry, i): i for i, entry in enumerate(entries)}
    for entry in _entries(above):
        counts = n.numbered is not None and not (isinstance(entry, Mapping) and n.numbered in entry.items)
        at = None if counts else keys.get(entry_key_texts(n, entry, len(entries)))
        if at is None or at >= inherited:  # a second entry in the same file is for the model to complain about
            entries.append(entry)
        else:
            entries[at] = merged(n.cls, _written_out(n, entries[at]), _written_out(n, entry))
    return Listing(tuple(entries), below.mark)


def _entries(tree: Tree) -> tuple[Tree, ...]:
    return tree.items if isinstance(tree, Listing) else (tree,)


def _written_out(n: Node, entry: Tree) -> Tree:
    if isinstance(entry, Scalar) and n.shorthand is not None:
        return Mapping({n.shorthand: (entry.mark, entry)}, entry.mark)
    return entry

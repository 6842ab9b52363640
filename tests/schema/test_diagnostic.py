"""How a complaint looks, to people and to machines."""

from __future__ import annotations

from igmpconf.schema.diagnostic import Diagnostic, in_order


def test_text_and_plain():
    full = Diagnostic(code="a/b", path="x[y]", message="is wrong", hint="do this", file="f.yaml", line=3, column=7)
    assert full.text() == "f.yaml:3:7: error: x[y]: is wrong [a/b]\n    hint: do this"
    assert full.to_plain() == {
        "severity": "error",
        "code": "a/b",
        "path": "x[y]",
        "message": "is wrong",
        "hint": "do this",
        "file": "f.yaml",
        "line": 3,
        "column": 7,
    }
    bare = Diagnostic(severity="warning", code="a/b", path="/", message="is odd")
    assert bare.text() == "warning: is odd [a/b]"
    assert bare.to_plain() == {"severity": "warning", "code": "a/b", "path": "/", "message": "is odd"}
    assert (full.is_error, bare.is_error) == (True, False)


def test_order_is_that_of_an_editor():
    places = [("b", 1, 1), ("a", 10, 2), ("a", 2, 9), (None, None, None), ("a", None, None), ("a", 2, 1)]
    found = in_order([Diagnostic(code="c", message="m", file=file, line=line, column=column) for file, line, column in places])
    assert [(d.file, d.line, d.column) for d in found] == [("a", 2, 1), ("a", 2, 9), ("a", 10, 2), ("a", None, None), ("b", 1, 1), (None, None, None)]

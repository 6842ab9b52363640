"""Replies against the modules that the agent says it has: yangson loads the library and the texts as a client would."""

from __future__ import annotations

import functools
import json
import re
import tempfile
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from yangson import DataModel
    from yangson.enumerations import ContentType, ValidationScope
    from yangson.xmlparser import XMLParser

from igmpconf.agent import library
from igmpconf.schema.names import NAMESPACE, module_of

_BASE_DATA = "{urn:ietf:params:xml:ns:netconf:base:1.0}data"
_NMDA_DATA = "{urn:ietf:params:xml:ns:yang:ietf-netconf-nmda}data"


@functools.cache
def model() -> DataModel:
    """Every module of the library."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for one in library.listed():
            text = library.text_of(one.name)
            assert text is not None, f"{one.name} is not installed; pip install pyang"
            (Path(scratch) / f"{one.name}@{one.revision}.yang").write_text(text, encoding="utf-8")
            kind = "import" if one.is_imported_only else "implement"
            row = {"name": one.name, "revision": one.revision, "namespace": one.namespace, "feature": list(one.features), "conformance-type": kind}
            rows.append(row)
        return DataModel(json.dumps({"ietf-yang-library:modules-state": {"module-set-id": "", "module": rows}}), (scratch,))


def check_reply(reply: bytes, *, is_whole: bool, is_config: bool = False) -> None:
    """Raises what yangson says when a `<data>` of the reply is not what the modules say.

    `is_whole`: nothing was filtered out, so that what is mandatory must be there and what must be so is so.
    """
    root = XMLParser(reply.decode()).root
    for found in root:
        if found.tag not in {_BASE_DATA, _NMDA_DATA}:
            continue
        tree = model().from_xml(found)
        if is_whole:
            tree.validate(ValidationScope.all, ContentType.config if is_config else ContentType.all)


def check_notification(message: bytes) -> None:
    """Raises what yangson says when the event of a `<notification>` has what its module does not, or lacks what is mandatory there."""
    event = XMLParser(message.decode()).root[1]
    space, _, name = event.tag[1:].partition("}")
    model().from_xml(event, f"{module_of(space)}:{name}")
    here = {child.tag.rpartition("}")[2] for child in event}
    wanted = {child.name for child in model().schema.get_child(name, module_of(space)).children if getattr(child, "_mandatory", False)}
    assert wanted <= here, f"{name} lacks {wanted - here}"


# Parts of a request after which what is mandatory may be missing.
_PARTIAL = ("<filter", "subtree-filter", "max-depth", "config-filter", "origin-filter", "<candidate", ":candidate")


_OURS_ANSWER = re.compile(r"<(get-log|begin-capture|read-capture|diagnose) ")  # get-commit answers anydata, which yangson does not read


def check_answer(operation: str, reply: bytes, *, sees_all: bool) -> None:
    """As `check_reply`, for the reply to `operation`; `sees_all`: nothing is hidden from who asked."""
    answered = _OURS_ANSWER.match(operation)
    root = XMLParser(reply.decode()).root
    if answered and len(root) and root[0].tag.startswith(f"{{{NAMESPACE}}}"):
        root.tag = f"{{{NAMESPACE}}}output"
        model().from_xml(root, f"igmpconf:{answered[1]}")
        return
    is_whole = sees_all and not any(part in operation for part in _PARTIAL)
    check_reply(reply, is_whole=is_whole, is_config="<get>" not in operation and "<get/>" not in operation and "operational" not in operation)

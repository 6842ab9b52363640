"""Reads from the tests' source which requirement each of them claims to show, and which side of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tests.kit.conformance import Aspect

ROOT = Path(__file__).resolve().parents[2]
ASPECTS: tuple[str, ...] = get_args(Aspect)
_ID = re.compile(r"\b(?:[A-Z]{2,3}-[0-9]{2,3}|R[0-9]{3})\b")
_NAME = re.compile(r"test_nc((?:_[0-9]{3})+)_")  # the ids of NETCONF stand in the names of its tests, too
# What a test shows that does not say it: the side of a requirement that its room is about.
_OF_ROOM = {"model": "desired", "schema": "desired", "migrate": "desired", "inventory": "desired", "plan": "plan", "apply": "apply", "agent": "apply"}


@dataclass(frozen=True, slots=True)
class Claim:
    """One test that claims one requirement."""

    test: str  # file::name
    aspects: tuple[str, ...]


def claims(known: Container[str]) -> dict[str, list[Claim]]:
    """Every test that claims an id of `known`, by decorator or in the ids of its table."""
    found: dict[str, list[Claim]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        room = _OF_ROOM.get(path.relative_to(ROOT / "tests").parts[0], "live")
        tree = ast.parse(path.read_text())
        tables = _tables(tree)
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or not function.name.startswith("test_"):
                continue
            calls = [decorator for decorator in function.decorator_list if isinstance(decorator, ast.Call)]
            aspects = tuple(dict.fromkeys(one for call in calls if _is_covers(call) for one in _aspects_in(call))) or (room,)
            named = _NAME.match(function.name)
            claimed = [f"NC-{number}" for number in named[1].split("_")[1:]] if named else []
            claimed = [one for one in claimed + [one for call in calls for one in _claimed_by(call, tables)] if one in known]
            for one in dict.fromkeys(claimed):
                found.setdefault(one, []).append(Claim(f"{path.relative_to(ROOT)}::{function.name}", aspects))
    return found


def named_in_decorators() -> list[tuple[Path, str]]:
    """Every string that stands as an id in a `@covers(...)`, known or not."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and _is_covers(call):
                found += [(path, arg.value) for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return found


def _tables(tree: ast.Module) -> dict[str, ast.expr]:
    """What the module assigns to names."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def _is_covers(call: ast.Call) -> bool:
    return getattr(call.func, "id", "") == "covers"


def _claimed_by(call: ast.Call, tables: dict[str, ast.expr]) -> list[str]:
    if _is_covers(call):
        return [one for arg in call.args for one in _ids_in(arg)]
    return [one for name in ast.walk(call) if isinstance(name, ast.Name) and name.id in tables for one in _ids_in(tables[name.id])]


def _aspects_in(call: ast.Call) -> list[str]:
    texts = [part.value for keyword in call.keywords if keyword.arg == "aspects" for part in ast.walk(keyword.value) if isinstance(part, ast.Constant)]
    return [text for text in texts if text in ASPECTS]


def _ids_in(node: ast.AST) -> list[str]:
    """Ids at the beginning of the strings below `node`; a string may begin with several, apart by blanks."""
    ids: list[str] = []
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            for word in part.value.split():
                if not (match := _ID.match(word)):
                    break
                ids.append(match[0])
    return ids

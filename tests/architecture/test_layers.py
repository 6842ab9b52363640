"""The walls of the house: who may import whom, what pure code may not touch, what a device has.

Layers, top to bottom; a room imports only from rooms below its own layer.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "igmpconf"
LAYERS = (
    {"cli"},
    {"api"},
    {"lab", "migrate"},
    {"agent", "apply"},
    {"linux", "inventory", "runtime"},
    {"engine", "schema", "plan", "netconf", "observe"},
    {"model"},
    {"machine", "ids", "errors", "xmltext"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

PURE_ROOMS = {"model", "schema", "plan", "engine", "netconf"}
PURE_FILES = {"agent/datastore.py", "apply/rollout.py", "apply/soak.py", "apply/device.py", "apply/steps.py"}
IMPURE_FILES = {"netconf/client.py", "netconf/sshclient.py", "netconf/target.py"}
WORLD = {"socket", "asyncio", "time", "random", "os", "subprocess", "logging"}

DEVICE_ROOMS = {"agent", "engine", "linux", "netconf", "schema", "model", "observe", "machine", "ids", "errors", "runtime", "xmltext"}
CONTROLLER_FILES = {*IMPURE_FILES, *(f"schema/{name}.py" for name in ("document", "explain", "jsonschema", "load", "places", "printed", "reference"))}
CONTROLLER_MODULES = tuple("igmpconf." + name.removesuffix(".py").replace("/", ".") for name in CONTROLLER_FILES)
DEVICE_PACKAGES = {"igmpconf"}
LAB_MODULE = "igmpconf.agent.ssh"  # the lab's SSH server, with paramiko: on no device, so imported only where it is used

FORBIDDEN_NAMES = {"utils.py", "util.py", "common.py", "helpers.py", "helper.py", "misc.py"}
MAX_LINES = 600


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, in functions and under TYPE_CHECKING too."""
    for found in ast.walk(tree):
        if isinstance(found, ast.Import):
            yield from ((found.lineno, alias.name) for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            assert found.level == 0, f"line {found.lineno}: relative import"
            yield from ((found.lineno, f"{found.module}.{alias.name}") for alias in found.names)


def complaints(name: str, source: str) -> list[str]:
    """What the file `name` (relative to the package) does that it may not."""
    tree = ast.parse(source)
    room = name.partition("/")[0].removesuffix(".py")
    pure = (room in PURE_ROOMS and name not in IMPURE_FILES) or name in PURE_FILES
    on_device = room in DEVICE_ROOMS and name not in CONTROLLER_FILES and name != "agent/ssh.py"
    found = []
    if len(source.splitlines()) > MAX_LINES:
        found.append(f"{name}: {len(source.splitlines())} lines, at most {MAX_LINES}: split along a noun")
    if name.rpartition("/")[2] in FORBIDDEN_NAMES:
        found.append(f"{name}: a function lives with its noun, not in a drawer")
    if name.endswith("__init__.py"):
        return found if not source else [*found, f"{name}: must be empty"]
    if room not in LEVEL:
        return [*found, f"{name}: room {room!r} has no layer; give it one in LAYERS"]
    for line, module in imports(tree):
        package, _, rest = module.partition(".")
        other = rest.partition(".")[0]
        if package == "igmpconf" and other != room and (other not in LEVEL or LEVEL[other] <= LEVEL[room]):
            found.append(f"{name}:{line}: {room} may not import {module}: rooms import only from layers below")
        if pure and package in WORLD:
            found.append(f"{name}:{line}: pure code may not import {package}")
        if on_device and package not in sys.stdlib_module_names | DEVICE_PACKAGES:
            found.append(f"{name}:{line}: device code may import the standard library only, not {package}")
        if on_device and any(f"{module}.".startswith(f"{absent}.") for absent in CONTROLLER_MODULES):
            found.append(f"{name}:{line}: {module} is not on a device")
        if f"{module}.".startswith(f"{LAB_MODULE}.") and line in {node.lineno for node in tree.body}:
            found.append(f"{name}:{line}: {LAB_MODULE} must be imported where it is used, so that the agent loads without paramiko")
    return list(dict.fromkeys(found))


def test_every_file_keeps_to_its_room() -> None:
    found = [line for path in sorted(ROOT.rglob("*.py")) for line in complaints(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("name", "source", "rule"),
    [
        ("engine/engine.py", "import igmpconf.linux.mroute", "layers below"),
        ("plan/diff.py", "from igmpconf import schema", "layers below"),
        ("engine/routes.py", "import time", "pure code"),
        ("agent/datastore.py", "def f():\n    import os", "pure code"),
        ("linux/netlink.py", "import lxml.etree", "standard library"),
        ("agent/dispatch.py", "from igmpconf.schema.load import load", "not on a device"),
        ("agent/dispatch.py", "from igmpconf.schema import load", "not on a device"),
        ("agent/worker.py", "from igmpconf.agent.ssh import serve", "where it is used"),
        ("agent/worker.py", "def serve():\n    import paramiko", "standard library"),
        ("apply/utils.py", "", "its noun"),
        ("plan/__init__.py", "X = 1", "must be empty"),
        ("cellar/x.py", "", "no layer"),
        ("cli/main.py", "\n" * 601, "split along a noun"),
    ],
)
def test_a_broken_rule_is_noticed(name: str, source: str, rule: str) -> None:
    assert any(rule in line for line in complaints(name, source))


def test_the_allowed_is_not_complained_about() -> None:
    assert complaints("cli/apply.py", "import os\nfrom igmpconf.agent import main\nfrom igmpconf.model.config import DeviceConfig") == []
    assert complaints("agent/ssh.py", "import paramiko") == []
    assert complaints("agent/worker.py", "def serve():\n    from igmpconf.agent import ssh") == []

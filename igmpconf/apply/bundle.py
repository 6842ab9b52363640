"""The agent as one file: what a device needs of this package in an executable zip archive.

    python -m igmpconf.apply.bundle igmpconf-agent.pyz

A device needs Python 3.11 and nothing else, and building needs no network.  Beside every module lies its bytecode: where
the device's Python is of the builder's version a start takes less than half the time; another one reads the source.  Texts of
the IETF's YANG modules go along as they are installed here (pyang has them), with their notices and ours about them;
get-schema serves them then.
"""

from __future__ import annotations

import argparse
import hashlib
import py_compile
import shutil
import sys
import tempfile
import zipapp
from importlib import metadata
from pathlib import Path

from igmpconf.schema import ietf

_PACKAGE = Path(__file__).parents[1]
_ROOMS = ("agent", "engine", "linux", "model", "netconf", "observe", "schema")
_MODULES = ("__init__.py", "errors.py", "ids.py", "machine.py", "runtime.py", "xmltext.py")
# What of these rooms only the controller or the lab uses; tests/architecture/test_layers.py sees to that.
NOT_ON_DEVICE = (
    "agent/ssh.py",
    "netconf/client.py",
    "netconf/sshclient.py",
    "netconf/target.py",
    "schema/document.py",
    "schema/explain.py",
    "schema/jsonschema.py",
    "schema/load.py",
    "schema/places.py",
    "schema/printed.py",
    "schema/reference.py",
)
_MAIN = "import sys\nfrom igmpconf.agent.main import main\nsys.exit(main())\n"


def build(target: Path, *, interpreter: str = "/usr/bin/env python3") -> None:
    """Write the archive to `target`, executable by `interpreter`; by default any `python3` on the device's path."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        ours = root / "igmpconf"
        for room in _ROOMS:
            shutil.copytree(_PACKAGE / room, ours / room, ignore=shutil.ignore_patterns("__pycache__"))
        for module in _MODULES:
            shutil.copy(_PACKAGE / module, ours / module)
        for name in NOT_ON_DEVICE:
            (ours / name).unlink(missing_ok=True)
        _add_modules(ours / "schema" / ietf.BESIDE)
        (root / "__main__.py").write_text(_MAIN, encoding="ascii")
        _name(root)
        _compile(root)
        zipapp.create_archive(root, target, interpreter=interpreter, compressed=True)


def _name(root: Path) -> None:
    """What importlib.metadata reads: our version, and a digest of what is inside, which tells two builds apart."""
    inside = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        inside.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode() + path.read_bytes())
    version = f"{metadata.version('igmpconf')}+{inside.hexdigest()[:8]}"
    place = root / f"igmpconf-{version}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: igmpconf\nVersion: {version}\n", encoding="ascii")


def _add_modules(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for name in ietf.MODULES:
        text = ietf.module_text(name)
        if text is not None:
            (directory / f"{name}.yang").write_text(text, encoding="utf-8")
    notice = _PACKAGE.parent / "NOTICE"
    if notice.exists():  # in a checkout
        shutil.copy(notice, directory)


def _compile(root: Path) -> None:
    for path in root.rglob("*.py"):
        name = path.relative_to(root).as_posix()
        py_compile.compile(str(path), str(path.with_suffix(".pyc")), dfile=name, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def main() -> int:
    parser = argparse.ArgumentParser(prog="igmpconf.apply.bundle", description="Build the agent as one file.")
    parser.add_argument("target", type=Path)
    target: Path = parser.parse_args().target
    build(target)
    absent = [name for name in ietf.MODULES if ietf.module_text(name) is None]
    without = f", without the YANG texts {', '.join(absent)} (pip install pyang)" if absent else ""
    sys.stderr.write(f"{target}: {target.stat().st_size // 1024} KiB{without}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

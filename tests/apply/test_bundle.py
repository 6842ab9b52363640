"""The agent as one file runs where there is a Python and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from igmpconf.agent.document import VERSION
from igmpconf.apply.bundle import NOT_ON_DEVICE, build
from igmpconf.lab.lab import Lab
from igmpconf.lab.namespaces import LabError
from igmpconf.schema import ietf
from tests.architecture.test_layers import CONTROLLER_FILES

BARE = [sys.executable, "-I", "-S"]  # no site-packages, no environment, not the current directory

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import igmpconf
for module in pkgutil.walk_packages(igmpconf.__path__, "igmpconf."):
    importlib.import_module(module.name)
    print(module.name)
assert igmpconf.__file__.startswith(sys.argv[1]), igmpconf.__file__
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundle") / "igmpconf-agent.pyz"
    build(target)
    return target


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BARE, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_it_answers_without_anything_installed(archive: Path) -> None:
    done = run(archive, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "netconf" in done.stdout


def test_it_knows_its_version_and_which_build_it_is(archive: Path) -> None:
    said = run(archive, "--version").stdout
    assert re.fullmatch(rf"igmpconf-agent {re.escape(metadata.version('igmpconf'))}\+[0-9a-f]{{8}}, state directory version {VERSION}\n", said)


def test_every_module_in_it_finds_all_it_imports(archive: Path) -> None:
    done = run("-c", IMPORT_ALL, archive)
    assert done.returncode == 0, done.stderr
    assert {"igmpconf.agent.main", "igmpconf.engine.listeners", "igmpconf.linux.mroute"} <= set(done.stdout.split())


def test_it_has_the_text_of_every_module_that_it_lists(archive: Path) -> None:
    """On a Python that has none: those installed here when it was built (pyang's) went along, with the notice about them."""
    listing = "import sys; sys.path.insert(0, sys.argv[1])\nfrom igmpconf.agent import library\n"
    done = run("-c", listing + "print(*(one.name for one in library.listed() if not library.has_text(one.name)))", archive)
    assert (done.stdout, done.stderr) == ("\n", "")
    read = run("-c", listing + "print(library.text_of('ietf-netconf-acm'), end='')", archive).stdout
    assert read == ietf.module_text("ietf-netconf-acm")
    assert "IETF Trust" in zipfile.ZipFile(archive).read("igmpconf/schema/ietf/NOTICE").decode()


def test_it_is_executable_and_holds_nothing_of_the_controller(archive: Path) -> None:
    assert archive.stat().st_mode & 0o111
    assert not {"igmpconf.cli", "igmpconf.apply", "igmpconf.netconf.client"} & set(run("-c", IMPORT_ALL, archive).stdout.split())


def test_both_places_that_say_what_is_on_no_device_agree() -> None:
    assert set(NOT_ON_DEVICE) == CONTROLLER_FILES | {"agent/ssh.py"}


@pytest.mark.kernel
def test_it_runs_the_engine_and_answers_netconf(archive: Path, tmp_path: Path) -> None:
    """In the router of a lab, keeper and worker from the one file, on a Python without packages."""
    try:
        lab = Lab.up(tmp_path, with_agent=False, tied=True)
    except LabError as missing:
        pytest.skip(f"{missing.message}: {missing.hint}")
    try:
        socket_path, log = tmp_path / "a.sock", tmp_path / "a.log"
        argv = [*BARE, str(archive), "run", "--state-dir", str(tmp_path / "state"), "--socket", str(socket_path)]
        pid = lab.fork("router", lambda: execute(argv, log))
        greeting = b""
        deadline = time.monotonic() + 20
        while b"]]>]]>" not in greeting:
            assert time.monotonic() < deadline, log.read_text()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
                agent.settimeout(1)
                with contextlib.suppress(OSError):
                    agent.connect(str(socket_path))
                    greeting = agent.recv(65_536)
        assert b"urn:igmpconf:yang:igmpconf" in greeting
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    finally:
        lab.down()


def execute(argv: list[str], log: Path) -> int:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.execv(argv[0], argv)

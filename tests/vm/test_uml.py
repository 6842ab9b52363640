"""Tests that need what this machine's kernel may lack, on another real kernel: user-mode Linux boots on our own files.

The kernel comes from Debian's package user-mode-linux (6.1, 8021q as module), boots in two seconds, sees the host's
files and runs pytest as its init's only child.  `make test-vm` installs the package where it may.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.manual import test_imports
from tests.topology import test_bridged, test_doctor_device, test_vlan

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 180

# Files are the host's: nothing of theirs is written to, what a test writes goes to a file system in memory.
_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /run
mkdir -p /run/lib /run/tests
ln -s /usr/lib/uml/modules /run/lib/modules
modprobe -a -d /run veth 8021q bridge nf_tables ipv6
[ -e /dev/stdin ] || ln -s /proc/self/fd/0 /dev/stdin
ip link set lo up
cd {root}
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={root} HOME=/run
{python} -m pytest -q -rs --color=no -p no:cacheprovider --basetemp=/run/tests/t {tests}
echo "pytest ended with $?"
echo o > /proc/sysrq-trigger
sleep 30
"""


def booted(directory: Path, tests: str) -> str:
    """What the console says while `tests` run in a virtual machine."""
    program = shutil.which("linux.uml")
    if program is None:
        pytest.skip("linux.uml is missing: apt install user-mode-linux")
    for tool in ("modprobe", "ip"):
        if shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
            pytest.skip(f"{tool} is missing: apt install kmod iproute2")
    init = directory / "init"
    init.write_text(_INIT.format(root=ROOT, python=sys.executable, tests=tests))
    init.chmod(0o755)
    command = [program, "mem=512M", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}", "con=null", "con0=fd:0,fd:1", f"uml_dir={directory}/uml/"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_PATIENCE_S, check=False)
    if "Run " not in done.stdout:
        pytest.skip(f"user-mode Linux does not boot here: {done.stdout.strip().splitlines()[-1:]}")
    return done.stdout


@pytest.mark.timeout(_PATIENCE_S + 20)
def test_vlans_on_a_kernel_with_8021q(tmp_path):
    said = booted(tmp_path, test_vlan.__file__)
    assert "pytest ended with 0" in said, said
    assert re.search(r"^\d+ passed in", said, re.MULTILINE), said  # none skipped


@pytest.mark.timeout(_PATIENCE_S + 20)
def test_imported_vlans_on_a_kernel_with_8021q(tmp_path):
    said = booted(tmp_path, f"{test_imports.__file__} -k 'vlan or export'")
    assert "pytest ended with 0" in said, said
    assert re.search(r"^2 passed", said, re.MULTILINE), said


@pytest.mark.timeout(_PATIENCE_S + 20)
def test_the_doctor_on_a_kernel_with_one_table_for_ipv4_and_none_for_ipv6(tmp_path):
    said = booted(tmp_path, f"{test_doctor_device.__file__} -k 'ipv6_streams or second_table'")
    assert "pytest ended with 0" in said, said
    assert re.search(r"^2 passed", said, re.MULTILINE), said  # none skipped


@pytest.mark.timeout(_PATIENCE_S + 20)
def test_mode_bridged_on_a_kernel_before_6_3_whose_bridges_know_vlans(tmp_path):
    said = booted(tmp_path, f"{test_bridged.__file__} -k 'reaches_the_ports and 239 or older and 239 or vlans_apart'")
    assert "pytest ended with 0" in said, said
    assert re.search(r"^3 passed", said, re.MULTILINE), said  # none skipped

"""What an agent behind sshd does not carry."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from igmpconf.engine.groupstate import GroupState

_PROGRAM = """
from igmpconf.agent import main
main._do_without_openssl()
import sys
import igmpconf.agent.worker
import hashlib
assert not {"_ssl", "_hashlib", "paramiko", "statistics"} & {name for name, module in sys.modules.items() if module is not None}
print(hashlib.sha256(b"igmpconf").hexdigest())
"""


def test_a_worker_without_ssh_has_no_openssl_and_the_same_digests():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(b"igmpconf").hexdigest()


def test_what_groups_share_nobody_can_fill():
    state = GroupState(b"\xef\x01\x01\x01", 0)
    with pytest.raises(AssertionError):
        state.wanted[b"\xc0\x00\x02\x01"] = 5
    with pytest.raises(AssertionError):
        state.source_queries_left.setdefault(b"\xc0\x00\x02\x01", 5)

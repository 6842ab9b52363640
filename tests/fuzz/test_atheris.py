"""A short run of the coverage-guided fuzzer; `make fuzz` runs it longer."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install -e '.[fuzz]' (its wheels are for x86-64 Linux with glibc)"
)


@pytest.mark.parametrize(("target", "runs", "least_coverage"), [("decoders", 50_000, 100), ("engine", 250, 800)])
def test_a_short_run_finds_nothing(tmp_path, target, runs, least_coverage):
    command = [sys.executable, "-m", "tests.fuzz.fuzzer", target, f"-runs={runs}", "-max_total_time=40", "-seed=1", "-verbosity=1"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr[-4000:]
    covered = [int(found) for found in re.findall(r"cov: (\d+)", done.stderr)]
    assert covered, done.stderr[-2000:]
    assert covered[-1] > least_coverage, "it got past the first checks"
    assert len(list((tmp_path / ".fuzz" / target).iterdir())) > 20


def test_a_mistake_would_be_found(tmp_path):
    """The same fuzzer on a decoder that trusts a length: the harness is awake."""
    broken = (
        "import sys, igmpconf.engine.wire.records as records\n"
        "source = open(records.__file__).read().replace('if sources_at > end:', 'if False:')\n"
        "exec(compile(source, records.__file__, 'exec'), records.__dict__)\n"
        "import igmpconf.engine.wire.igmp as igmp; igmp.decode_records = records.decode_records\n"
        "from tests.fuzz.afternoon import decode, seeds\n"
        "for seed in seeds():\n"
        "    for end in range(len(seed)):\n"
        "        cut = bytearray(seed[:end])\n"
        "        if end > 8:\n"
        "            from igmpconf.engine.wire.checksum import internet_checksum\n"
        "            cut[2:4] = bytes(2); cut[2:4] = internet_checksum(bytes(cut)).to_bytes(2)\n"
        "        decode(bytes(cut))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", broken], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "IndexError" in done.stderr

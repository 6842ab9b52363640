from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from igmpconf.agent.document import VERSION, document
from igmpconf.agent.files import DISK, Files
from igmpconf.agent.image import CommitRecord, Image, KeptConfig, PendingCommit
from igmpconf.agent.journal import Journal, StateDirectoryError
from igmpconf.ids import PersistId
from igmpconf.model.canon import digest
from igmpconf.model.config import DeviceConfig, LoggingConfig


def config(size: int) -> DeviceConfig:
    return DeviceConfig(logging=LoggingConfig(size=size))


def record(number: int, wanted: DeviceConfig, *, time: str | None = None) -> CommitRecord:
    return CommitRecord(
        number=number, time=time, user="anna", plan="p", comment="ü\n<&", event="commit", digest=digest(wanted), diff="+ a 1\n- b 2", kept=wanted
    )


OLD = Image(running=config(11), history=(record(1, config(11), time="2026-01-01T00:00:00Z"),))
NEW = Image(
    running=config(12),
    pending=PendingCommit(rollback=config(11), persist_id=PersistId("x")),
    history=(*OLD.history, record(2, config(12), time="2026-01-02T00:00:00Z")),
)


def read(state_dir: Path) -> tuple[Image, list[str]]:
    journal = Journal(state_dir)
    journal.close()
    return journal.found, journal.findings


def written(state_dir: Path, *images: Image) -> Path:
    journal = Journal(state_dir)
    for image in images:
        journal.write(image)
    journal.close()
    return state_dir


def test_an_empty_directory_is_an_empty_device(tmp_path):
    assert read(tmp_path / "new" / "state") == (Image(running=DeviceConfig()), [])
    assert stat.S_IMODE((tmp_path / "new" / "state").stat().st_mode) == 0o700


def test_what_was_written_is_read(tmp_path):
    assert read(written(tmp_path / "s", OLD)) == (OLD, [])
    assert read(written(tmp_path / "s", NEW)) == (NEW, [])


def test_new_records_are_stamped_once(tmp_path):
    journal = Journal(tmp_path / "s")
    time = journal.write(Image(running=config(11), history=(record(1, config(11)),)))
    journal.close()
    found, _ = read(tmp_path / "s")
    assert found.history[0].time == time
    assert len(time) == len("2026-01-01T00:00:00Z")
    assert time.endswith("Z")


def test_the_files_say_what_they_are(tmp_path):
    state = written(tmp_path / "s", OLD, NEW)
    for path in (state / "journal.json", state / "journal.json.previous", state / "commits" / "000002.json"):
        document = json.loads(path.read_text())
        assert (document["format"], document["version"], len(document["sha256"])) == ("igmpconf-journal", VERSION, 64)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_agents_do_not_share_a_directory(tmp_path):
    first = Journal(tmp_path / "s")
    with pytest.raises(StateDirectoryError, match=f"another agent \\(process {os.getpid()}\\) uses the state directory"):
        Journal(tmp_path / "s")
    first.close()
    Journal(tmp_path / "s").close()


def test_a_lock_dies_with_its_process(tmp_path):
    program = "import sys; from pathlib import Path; from igmpconf.agent.journal import Journal; Journal(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "s")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(StateDirectoryError):
            Journal(tmp_path / "s")
        holder.kill()
        holder.wait()
    Journal(tmp_path / "s").close()


def test_a_journal_cut_at_any_byte_is_set_aside_and_the_one_before_it_is_used(tmp_path):
    state = written(tmp_path / "s", OLD, NEW)
    whole = (state / "journal.json").read_bytes()
    assert json.loads(whole)
    for length in range(len(whole) - 1):  # without its last newline it is still whole
        place = tmp_path / "cut"
        shutil.copytree(state, place)
        (place / "journal.json").write_bytes(whole[:length])
        found, findings = read(place)
        assert found == OLD
        assert "journal.json.damaged-1" in findings[0]
        assert (place / "journal.json.damaged-1").read_bytes() == whole[:length]
        shutil.rmtree(place)


def test_a_flipped_bit_is_noticed(tmp_path):
    state = written(tmp_path / "s", OLD, NEW)
    whole = bytearray((state / "journal.json").read_bytes())
    at = whole.index(b'"size":12')
    whole[at + 8] ^= 1
    (state / "journal.json").write_bytes(whole)
    found, findings = read(state)
    assert found == OLD
    assert "its digest does not match" in findings[0]


class CrashError(BaseException):
    """The power goes off."""


class CrashingFiles(Files):
    """Every call that changes the disk is counted; call `at` never happens, nor any after it."""

    def __init__(self) -> None:
        self.calls = self.at = 0

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name not in {"create", "write", "flush", "rename", "unlink", "flush_directory"}:
            return found

        def call(*given):
            self.calls += 1
            if self.at and self.calls >= self.at:
                raise CrashError
            return found(*given)

        return call


def test_a_crash_at_any_system_call_leaves_old_or_new(tmp_path):
    is_new: list[bool] = []
    while True:
        files = CrashingFiles()
        place = tmp_path / str(len(is_new))
        journal = Journal(place, files)
        journal.write(OLD)
        files.calls, files.at = 0, len(is_new) + 1
        has_crashed = False
        try:
            journal.write(NEW)
        except CrashError:
            has_crashed = True
        journal.close()
        found, _ = read(place)
        assert found in {OLD, NEW}
        is_new.append(found == NEW)
        if not has_crashed:
            break
    assert is_new == sorted(is_new)  # old up to some step, new from there on
    assert is_new.count(False) > 8
    assert is_new.count(True) > 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["create", "write", "flush", "flush_directory"])
def test_a_disk_that_refuses_changes_nothing(tmp_path, monkeypatch, code, call):
    journal = Journal(tmp_path / "s")
    journal.write(OLD)

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(DISK, call, refuse)
        with pytest.raises(OSError) as refused:
            journal.write(NEW)
        assert refused.value.errno == code
    assert not list((tmp_path / "s").rglob("*.new"))
    journal.close()
    assert read(tmp_path / "s") == (OLD, [])
    assert read(written(tmp_path / "s", NEW)) == (NEW, [])


def test_a_really_full_file_system_refuses_and_keeps_the_old(tmp_path):
    """A tmpfs of a few pages, in a mount namespace of its own."""
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.agent.test_journal import NEW, OLD, Image, Journal, config, record, read
state = Path(sys.argv[1]) / "s"
journal = Journal(state)
journal.write(OLD)
ballast = os.open(state.parent / "ballast", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(ballast, b"x" * 4096)
except OSError:
    os.close(ballast)
try:
    journal.write(NEW)
except OSError as error:
    print("refused", error.errno)
journal.close()
print(read(state) == (OLD, []))
(state.parent / "ballast").unlink()
journal = Journal(state)
journal.write(NEW)
journal.close()
print(read(state) == (NEW, []))
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    place = tmp_path / "full"
    place.mkdir()
    shell = f"mount -t tmpfs -o size=256k none {place} && {sys.executable} {script} {place}"
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0 and ("unshare" in done.stderr or "mount:" in done.stderr):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.stdout.split("\n")[:3] == [f"refused {errno.ENOSPC}", "True", "True"], done.stderr


def test_a_damaged_commit_file_costs_only_itself(tmp_path):
    state = written(tmp_path / "s", OLD, NEW)
    (state / "commits" / "000001.json").write_bytes(b"{")
    found, findings = read(state)
    assert (found.running, found.pending) == (NEW.running, NEW.pending)
    assert [row.config for row in found.history] == [None, config(12)]
    assert "000001.json.damaged-1" in findings[0]
    assert read(written(state, found)) == (found, [])


def test_when_both_journals_are_gone_the_newest_commit_is_used(tmp_path):
    state = written(tmp_path / "s", OLD, NEW)
    (state / "journal.json").write_bytes(b"")
    (state / "journal.json.previous").unlink()
    found, findings = read(state)
    assert found == Image(running=config(12))
    assert "000002.json" in findings[-1]


def test_what_a_crash_left_half_written_is_removed(tmp_path):
    state = written(tmp_path / "s", OLD)
    (state / "journal.json.new").write_bytes(b"half")
    (state / "commits" / "000002.json.new").write_bytes(b"half")
    assert read(state) == (OLD, [])
    assert not list(state.rglob("*.new"))


def test_a_crash_between_the_two_renames_leaves_the_old_one(tmp_path):
    state = written(tmp_path / "s", OLD)
    (state / "journal.json").rename(state / "journal.json.previous")
    assert read(state)[0] == OLD


def test_a_journal_of_a_newer_agent_is_not_touched(tmp_path):
    state = written(tmp_path / "s", OLD)
    path = state / "journal.json"
    newer = document(json.loads(path.read_text())["content"], VERSION + 1)
    path.write_bytes(newer)
    for _ in range(2):  # the second time: the lock was given back
        with pytest.raises(StateDirectoryError, match=f"has version {VERSION + 1}, this agent knows versions 1 to {VERSION}") as refused:
            Journal(state)
        assert "a newer agent wrote it" in refused.value.hint
    assert path.read_bytes() == newer
    assert list(state.glob("*.damaged*")) == []


def test_a_flipped_bit_in_the_version_is_damage_and_no_newer_version(tmp_path):
    state = written(tmp_path / "s", OLD, NEW)
    path = state / "journal.json"
    path.write_text(path.read_text().replace(f'"version": {VERSION}', '"version": 6'))
    found, findings = read(state)
    assert found == OLD
    assert "its digest does not match" in findings[0]


FIXTURE = Path(__file__).parent / "state-version-1"  # as an agent of that time left it, with a confirmed commit that waited


def test_a_state_directory_of_version_1_is_read_and_brought_up_to_date(tmp_path):
    state = tmp_path / "s"
    shutil.copytree(FIXTURE, state)
    found, findings = read(state)
    assert [(row.number, row.user, row.plan, row.event, row.diff) for row in found.history] == [
        (1, "anna", "20260101-120000-aaaaaa", "commit", "+ logging/size 11\n+ logging/topics [igmp-proxy]"),
        (2, "berta", None, "confirmed", "~ logging/size 11 -> 12"),
    ]
    assert found.running.logging.size == found.history[1].config.logging.size == 12
    assert found.pending == PendingCommit(rollback=found.history[0].config, persist_id=PersistId("waits"))
    assert findings == [f"journal.json has version 1; the next commit writes version {VERSION}"]
    rolled_back = Image(running=found.pending.rollback, history=found.history)
    assert read(written(state, rolled_back)) == (rolled_back, [])
    assert {json.loads(path.read_text())["version"] for path in (state / "journal.json", *(state / "commits").iterdir())} == {VERSION}


def test_commits_that_left_the_history_leave_the_disk(tmp_path):
    journal = Journal(tmp_path / "s")
    rows = [record(number, config(10 + number), time="t") for number in range(1, 6)]
    journal.write(Image(running=config(15), history=tuple(rows)))
    journal.write(Image(running=config(15), history=tuple(rows[3:])))
    journal.close()
    assert sorted(path.name for path in (tmp_path / "s" / "commits").iterdir()) == ["000004.json", "000005.json"]


def test_a_directory_that_cannot_be_used_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match="cannot use the state directory") as refused:
        Journal(tmp_path / "file" / "s")
    assert "--state-dir" in (refused.value.hint or "")


def test_configurations_of_the_history_are_read_when_somebody_asks_for_them(tmp_path, caplog):
    state = written(tmp_path / "s", OLD, NEW)
    found, _ = read(state)
    assert all(isinstance(row.kept, KeptConfig) for row in found.history)
    assert [row.config for row in found.history] == [config(11), config(12)]
    assert found == NEW
    (state / "commits" / "000001.json").write_bytes(b"{")  # after the start
    with caplog.at_level("WARNING"):
        assert found.history[0].config is None
    assert "000001.json is damaged" in caplog.text
    assert found.history[1].config == config(12)

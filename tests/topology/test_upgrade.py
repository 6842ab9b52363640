"""`igmpconf-agent upgrade`: another version takes over under a stream of a thousand datagrams a second, and one that is broken does not.

head 10.1.0.2 --- wan 10.1.0.1 [router] lan0 10.2.0.1 --- 10.2.0.2 h0
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from igmpconf.agent.document import VERSION, document
from igmpconf.apply.bundle import build
from tests.kit.agent import Agent
from tests.kit.netconf import Client, threshold
from tests.kit.netns import wait_until
from tests.topology.test_keeper import CONFIG, G, flowing, net  # noqa: F401 - the same place

pytestmark = pytest.mark.kernel
NAME = re.compile(r"igmpconf-agent-[0-9a-f]{12}\.pyz")


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("bundle") / "igmpconf-agent.pyz"
    build(target)
    return target


def variant(archive: Path, target: Path, version: str, **changed: str) -> Path:
    """The same agent with another version number and, by module, other text in the place of some of its own."""
    texts = {f"igmpconf/agent/{name}.py": text for name, text in changed.items()}
    with zipfile.ZipFile(archive) as former, target.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
            for entry in former.namelist():
                if entry.removesuffix("c") in texts and entry.endswith("c"):
                    continue  # the bytecode of what is changed
                text = texts.get(entry, former.read(entry))
                if entry.endswith("METADATA"):
                    text = re.sub(rb"Version: .*", f"Version: {version}".encode(), former.read(entry))
                made.writestr(entry, text)
    target.chmod(0o755)
    return target


class Installed(Agent):
    """An agent that runs from a one-file program in a directory of its own."""

    def __init__(self, inside, directory: Path, archive: Path) -> None:
        self.program = directory / "bin" / "igmpconf-agent"
        self.program.parent.mkdir()
        shutil.copy(archive, self.program)
        super().__init__(inside, directory, CONFIG)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = self.inside.popen(
                [sys.executable, str(self.program), "run", "--state-dir", str(self.state_dir), "--socket", str(self.socket)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            )
        wait_until(lambda: self.engine_pid() or self.process.poll() is not None, "the engine's pid", 30)
        assert self.process.poll() is None, self.said()

    def upgrade(self, file: Path, expected: int = 0) -> str:
        command = [sys.executable, str(self.program), "upgrade", str(file), "--state-dir", str(self.state_dir), "--socket", str(self.socket)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
        assert done.returncode == expected, f"{done.stderr}\n{self.said()}"
        return done.stderr

    def files(self) -> set[str]:
        return {path.name for path in self.program.parent.iterdir()}

    def version_inside(self) -> str:
        """Of the worker that serves now: what its process has open as program."""
        environment = Path(f"/proc/{self.engine_pid()}/environ").read_bytes().split(b"\0")
        return next(one.partition(b"=")[2].partition(b":")[0].decode() for one in environment if one.startswith(b"PYTHONPATH="))


@pytest.fixture
def agent(net, tmp_path, archive):  # noqa: F811
    return Installed(net.router, tmp_path, archive)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_another_version_takes_over_under_the_stream_and_so_does_the_former_again(net, agent, archive, tmp_path):  # noqa: F811
    newer = variant(archive, tmp_path / "newer.pyz", "9.9.9")
    keeper = agent.process.pid
    with flowing(net) as stream:
        first = agent.engine_pid()
        said = agent.upgrade(newer)
        assert "9.9.9 runs; 1 routing sockets were handed over" in said
        second = agent.engine_pid(other_than=first)
        stream.passed(300)
        assert agent.process.poll() is None  # the same process, another program: a service manager sees no change
        assert agent.version_inside() == str(agent.program.resolve())
        names = agent.files() - {"igmpconf-agent"}
        assert len(names) == 2
        assert all(NAME.fullmatch(name) for name in names)
        os.kill(second, signal.SIGKILL)  # the keeper of now restarts what is now, and still has the sockets
        third = wait_until(lambda: agent.engine_pid(other_than=second), "the next worker", 20)
        assert parent_of(third) == keeper
        assert agent.version_inside() == str(agent.program.resolve())
        former = next(agent.program.parent / name for name in names if name != agent.program.resolve().name)
        agent.upgrade(former)
        assert agent.program.resolve() == former
        stream.passed(300)
        agent.process.kill()  # and the worker that came with the upgrade becomes a keeper when that dies
        agent.process.wait(10)
        fourth = agent.engine_pid()
        fifth = wait_until(lambda: agent.engine_pid(other_than=fourth), "the worker of the next keeper", 20)
        stream.passed(300)
    assert parent_of(fifth) == fourth
    assert agent.version_inside() == str(former)
    assert "routes/adopted" in agent.said()
    wait_until(lambda: G in net.router.run("ip mroute show"), "the membership is known to the engine of now")
    os.kill(fourth, signal.SIGTERM)
    wait_until(lambda: net.router.run("ip mroute show") == "" and not agent.engine_pid(), "a polite end", 15)


BROKEN = (
    ({"worker": "raise RuntimeError('this one is broken')"}, "it ended: exit code 1"),
    ({"server": "import os\nos._exit(3)"}, "it ended: exit code 3"),
)


def test_a_version_that_does_not_serve_is_undone_and_one_that_cannot_is_not_tried(net, agent, archive, tmp_path):  # noqa: F811
    with flowing(net) as stream:
        for number, (changed, reason) in enumerate(BROKEN):
            broken = variant(archive, tmp_path / f"broken{number}.pyz", "9.9.9", **changed)
            first = agent.engine_pid()
            said = agent.upgrade(broken, expected=7)
            assert f"9.9.9 was tried and does not serve: {reason}" in said
            wait_until(lambda first=first: agent.engine_pid(other_than=first), "the former program again", 20)
            stream.passed(300)
            assert not agent.program.is_symlink()
            assert len(agent.files()) == 2  # itself, and itself under the name with the digest
        now = agent.engine_pid()
        refused(agent, archive, tmp_path)
        assert agent.engine_pid() == now
    assert agent.stop() == 0
    assert "no agent runs here" in agent.upgrade(archive, expected=1)


def refused(agent: Installed, archive: Path, place: Path) -> None:
    """Before anything is touched."""
    (place / "text.pyz").write_text("no agent")
    assert "is not an igmpconf-agent.pyz" in agent.upgrade(place / "text.pyz", expected=1)
    wrong = variant(archive, place / "wrong.pyz", "9.9.9", main="import of_nothing")
    assert "does not run here: ModuleNotFoundError: No module named 'of_nothing'" in agent.upgrade(wrong, expected=1)
    newer = variant(archive, place / "newer.pyz", "9.9.9")
    with Client.connected(agent.socket) as client:
        client.edit(threshold(7))
        client.ok("<commit><confirmed/><persist>token</persist></commit>")
        assert "a change waits for its confirmation" in agent.upgrade(newer, expected=1)
        client.ok("<cancel-commit><persist-id>token</persist-id></cancel-commit>")
    journal = agent.state_dir / "journal.json"
    now = journal.read_bytes()
    journal.write_bytes(document({"pending": None}, VERSION + 1))
    assert f"has version {VERSION + 1}" in agent.upgrade(newer, expected=1)
    journal.write_bytes(now)

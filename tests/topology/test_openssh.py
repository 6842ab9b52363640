"""The agent behind a real OpenSSH server, as on a device.

ncclient, ssh -s ──TCP 127.0.0.1──> sshd ──Subsystem netconf──> igmpconf-agent netconf ──unix socket──> agent
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ncclient.operations import RPCError

from igmpconf.netconf.framing import Decoder, framed
from igmpconf.xmltext import parse
from tests.kit.netconf import BASE, HELLO_1_1, ONE_PROXY, OURS, RunningService, eventually, threshold
from tests.kit.openssh import SSHD, Sshd

CONFIG = '<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">%s</config>'

pytestmark = pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="OpenSSH is not installed (Debian: openssh-server)")


@pytest.fixture
def agent(tmp_path: Path):
    with RunningService(tmp_path) as running:
        yield running


@pytest.fixture
def sshd(tmp_path: Path, agent: RunningService):
    server = Sshd(tmp_path, agent.socket_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_nc_001_002_the_main_job_through_openssh(agent, sshd):
    with sshd.connected() as session:
        assert ":candidate" in session.server_capabilities
        with session.locked("candidate"):
            session.edit_config(config=CONFIG % ONE_PROXY, target="candidate", default_operation="replace", error_option="rollback-on-error")
            session.validate("candidate")
            session.commit(confirmed=True, timeout="60", persist="token")
        with sshd.connected() as fresh:
            fresh.commit(persist_id="token")
        assert "lan0" in session.get_config("running").data_xml
        history = session.get(("subtree", f'<state xmlns="{OURS}"><history><event/><user/></history></state>')).data_xml
        assert history.count(f"<user>{getpass.getuser()}</user>") == 2  # NC-002: the SSH user is the NETCONF user
        assert "module igmpconf {" in session.get_schema("igmpconf").data


def test_errors_arrive_with_their_tags(agent, sshd):
    with sshd.connected() as one, sshd.connected() as other:
        one.lock("candidate")
        with pytest.raises(RPCError) as refused:
            other.lock("candidate")
        assert (refused.value.type, refused.value.tag) == ("protocol", "lock-denied")
        assert f"<session-id>{one.session_id}</session-id>" in refused.value.info


@pytest.mark.alone
def test_nc_114_nc_125_a_killed_client_frees_its_lock_and_undoes_its_commit(agent, sshd):
    with sshd.connected() as setup:
        setup.edit_config(config=CONFIG % ONE_PROXY, target="candidate")
        setup.commit()
    before = agent.engine.config
    client = subprocess.Popen(sshd.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None
    client.stdin.write(framed(HELLO_1_1.encode(), is_chunked=False))
    for number, operation in enumerate(
        (
            "<lock><target><candidate/></target></lock>",
            f"<edit-config><target><candidate/></target><config>{threshold(7)}</config></edit-config>",
            "<commit><confirmed/></commit>",
        )
    ):
        client.stdin.write(framed(f'<rpc xmlns="{BASE}" message-id="{number}">{operation}</rpc>'.encode(), is_chunked=True))
    client.stdin.flush()
    eventually(lambda: agent.engine.config != before)
    client.kill()
    client.communicate()
    eventually(lambda: agent.engine.config == before, within_s=3)
    with agent.client() as local:
        local.lock()


def test_raw_ssh_gets_everything_it_asked_for_before_it_closed_its_end(agent, sshd):
    asked = framed(HELLO_1_1.encode(), is_chunked=False)
    for number in range(3):
        asked += framed(f'<rpc xmlns="{BASE}" message-id="{number}"><get-config><source><running/></source></get-config></rpc>'.encode(), is_chunked=True)
    done = subprocess.run(sshd.command(), input=asked, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    decoder = Decoder()
    decoder.feed(done.stdout)
    assert parse(decoder.next_message() or b"").tag == f"{{{BASE}}}hello"
    decoder.use_chunks()
    assert [parse(decoder.next_message() or b"").get("message-id") for _ in range(3)] == ["0", "1", "2"]


def test_raw_ssh_does_the_whole_job(agent, sshd):
    """lock, edit, validate, confirmed commit, confirm; then a change that is cancelled and one that is discarded; a schema."""
    candidate = "<target><candidate/></target>"
    edit = f"<edit-config>{candidate}<config>%s</config></edit-config>"
    asked = (
        f"<lock>{candidate}</lock>",
        edit % ONE_PROXY,
        "<validate><source><candidate/></source></validate>",
        "<commit><confirmed/><confirm-timeout>60</confirm-timeout></commit>",
        "<commit/>",
        edit % threshold(7),
        "<commit><confirmed/></commit>",
        "<cancel-commit/>",
        edit % threshold(8),
        "<discard-changes/>",
        f"<unlock>{candidate}</unlock>",
        "<get-config><source><candidate/></source></get-config>",
        '<get-schema xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"><identifier>igmpconf</identifier></get-schema>',
        "<close-session/>",
    )
    said = framed(HELLO_1_1.encode(), is_chunked=False)
    for number, operation in enumerate(asked):
        said += framed(f'<rpc xmlns="{BASE}" message-id="{number}">{operation}</rpc>'.encode(), is_chunked=True)
    done = subprocess.run(sshd.command(), input=said, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    decoder = Decoder()
    decoder.feed(done.stdout)
    decoder.next_message()
    decoder.use_chunks()
    replies = [decoder.next_message() or b"" for _ in asked]
    for operation, reply in zip(asked[:11], replies, strict=False):
        assert b"<ok/>" in reply, operation
    assert b"lan0" in replies[11]
    assert b"threshold" not in replies[11]
    assert b"module igmpconf {" in replies[12]
    assert b"<ok/>" in replies[13]


def test_nc_020_close_session_ends_the_channel_with_status_0(agent, sshd):
    client = subprocess.Popen(sshd.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None
    client.stdin.write(framed(HELLO_1_1.encode(), is_chunked=False))
    client.stdin.write(framed(f'<rpc xmlns="{BASE}" message-id="1"><close-session/></rpc>'.encode(), is_chunked=True))
    client.stdin.flush()
    assert client.wait(timeout=10) == 0  # although our end is still open
    client.communicate()


def test_without_an_agent_the_client_is_told(tmp_path):
    server = Sshd(tmp_path, tmp_path / "absent.sock")
    try:
        server.start()
        done = subprocess.run(server.command(), input=b"", capture_output=True, timeout=30, check=False)
    finally:
        server.stop()
    assert done.returncode == 5  # all that OpenSSH passes on: it drops what a subsystem says on standard error

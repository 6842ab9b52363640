"""NETCONF clients that were not made for this agent, through a real OpenSSH server; each that is not installed is skipped.

pip install 'igmpconf[clients]'
"""

from __future__ import annotations

import getpass
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from tests.kit.netconf import IC, ONE_PROXY, RunningService, eventually, threshold
from tests.kit.openssh import SSHD, Sshd

CONFIG = '<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">%s</config>'
MONITORING = "urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"
GET_SCHEMA = f'<get-schema xmlns="{MONITORING}"><identifier>igmpconf</identifier></get-schema>'

# they leave the closing of their sockets and pseudo-terminals to the collector
pytestmark = [
    pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="OpenSSH is not installed (Debian: openssh-server)"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning"),
]


def module(name: str, package: str) -> ModuleType:
    """A client's module, or a skipped test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{package} is not installed ({error}); pip install 'igmpconf[clients]'")


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


def lan_threshold(agent: RunningService) -> int | None:
    assert agent.engine.config is not None
    (proxy,) = agent.engine.config.proxies
    return next(one.threshold for one in proxy.interfaces if one.interface == "lan0")


def test_netconf_client(agent, sshd):
    connect = module("netconf_client.connect", "netconf-client")
    manager = module("netconf_client.ncclient", "netconf-client")
    errors = module("netconf_client.error", "netconf-client")

    def opened():
        return manager.Manager(connect.connect_ssh("127.0.0.1", sshd.port, username=getpass.getuser(), key_filename=str(sshd.home / "user")), timeout=20)

    with opened() as client, opened() as fresh:
        client.lock("candidate")
        with pytest.raises(errors.RpcError, match="locked by session"):
            fresh.lock("candidate")
        client.edit_config(CONFIG % ONE_PROXY, target="candidate", default_operation="replace", error_option="rollback-on-error")
        client.validate("candidate")
        client.commit(confirmed=True, confirm_timeout=60, persist="token")
        client.unlock("candidate")
        fresh.commit(persist_id="token")
        fresh.edit_config(CONFIG % threshold(7), target="candidate")
        fresh.commit(confirmed=True, confirm_timeout=60)
        assert lan_threshold(agent) == 7
        fresh.cancel_commit()
        assert lan_threshold(agent) is None
        assert b"lan0" in client.get_config("running").data_xml
        assert "module igmpconf {" in str(client.dispatch(GET_SCHEMA).xml)
        client.create_subscription(start_time=(datetime.now(UTC) - timedelta(minutes=5)).isoformat())
        seen = []
        while not seen or b"replayComplete" not in seen[-1]:
            notification = client.take_notification(timeout=20)
            assert notification is not None
            seen.append(notification.notification_xml)
        assert any(b"netconf-confirmed-commit" in one for one in seen)


def test_scrapli(agent, sshd):
    """It asks for a terminal (`ssh -tt -s`), so that the octets pass two of them."""
    driver = module("scrapli_netconf.driver", "scrapli-netconf")

    def opened():
        return driver.NetconfDriver(
            host="127.0.0.1",
            port=sshd.port,
            auth_username=getpass.getuser(),
            auth_private_key=str(sshd.home / "user"),
            auth_strict_key=False,
            ssh_config_file=False,
            timeout_ops=20,
        )

    def done(answer) -> str:
        assert not answer.failed, answer.result
        return answer.result

    with opened() as client, opened() as fresh:
        done(client.lock("candidate"))
        assert "locked by session" in fresh.lock("candidate").result
        done(client.edit_config(CONFIG % ONE_PROXY, target="candidate"))
        done(client.validate("candidate"))
        done(client.commit(confirmed=True, timeout=60, persist="token"))
        done(client.unlock("candidate"))
        done(fresh.commit(persist_id="token"))
        done(fresh.edit_config(CONFIG % threshold(7), target="candidate"))
        done(fresh.commit(confirmed=True, timeout=60))
        assert lan_threshold(agent) == 7
        done(fresh.rpc("<cancel-commit/>"))
        assert lan_threshold(agent) is None
        done(fresh.edit_config(CONFIG % threshold(8), target="candidate"))
        done(fresh.discard())
        assert "threshold" not in done(fresh.get_config("candidate"))
        assert "lan0" in done(client.get_config("running"))
        assert "module igmpconf {" in done(client.rpc(GET_SCHEMA))


PLAYBOOK = """
- hosts: device
  gather_facts: false
  connection: ansible.netcommon.netconf
  tasks:
    - ansible.netcommon.netconf_config:
        target: candidate
        default_operation: replace
        error_option: rollback-on-error
        validate: true
        content: |
          CONTENT
    # its own `confirm` gives ncclient a number where it wants text, so the confirmed commit is an rpc
    - ansible.netcommon.netconf_config:
        target: candidate
        lock: never
        commit: false
        content: |
          CHANGE
    - ansible.netcommon.netconf_rpc:
        rpc: commit
        xmlns: urn:ietf:params:xml:ns:netconf:base:1.0
        content: <confirmed/><confirm-timeout>60</confirm-timeout>
    - ansible.netcommon.netconf_rpc:
        rpc: commit
        xmlns: urn:ietf:params:xml:ns:netconf:base:1.0
    - ansible.netcommon.netconf_config:
        target: candidate
        lock: never
        commit: false
        content: |
          UNWANTED
    - ansible.netcommon.netconf_rpc:
        rpc: commit
        xmlns: urn:ietf:params:xml:ns:netconf:base:1.0
        content: <confirmed/>
    - ansible.netcommon.netconf_rpc:
        rpc: cancel-commit
        xmlns: urn:ietf:params:xml:ns:netconf:base:1.0
    - ansible.netcommon.netconf_get:
        source: running
        filter: '<igmp-proxy xmlns="urn:igmpconf:yang:igmpconf"><interfaces><interface>lan0</interface></interfaces></igmp-proxy>'
      register: running
    - ansible.builtin.assert:
        that:
          - "'lan0' in running.stdout"
          - "'wan' not in running.stdout"
    - ansible.netcommon.netconf_rpc:
        rpc: get-schema
        xmlns: urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring
        content: <identifier>igmpconf</identifier>
      register: schema
    - ansible.builtin.assert:
        that: "'module igmpconf' in (schema.stdout | string)"
    - ansible.netcommon.netconf_rpc:
        rpc: reboot
      register: refused
      ignore_errors: true
    - ansible.builtin.assert:
        that: refused is failed
"""


def test_ansible(agent, sshd, tmp_path):
    program = shutil.which("ansible-playbook") or shutil.which("ansible-playbook", path=str(Path(sys.executable).parent))
    if program is None or importlib.util.find_spec("ansible_collections") is None:  # ansible-core alone has no collections
        pytest.skip("ansible with its collections is not installed; pip install 'igmpconf[clients]'")
    playbook, inventory, home = (tmp_path / name for name in ("play.yml", "hosts.yml", "ansible"))
    playbook.write_text(
        PLAYBOOK.replace("CONTENT", (CONFIG % ONE_PROXY).replace("\n", " ")).replace("CHANGE", CONFIG % threshold(7)).replace("UNWANTED", CONFIG % threshold(8))
    )
    facts = {
        "ansible_host": "127.0.0.1",
        "ansible_port": sshd.port,
        "ansible_user": getpass.getuser(),
        "ansible_network_os": "default",
        "ansible_ssh_private_key_file": str(sshd.home / "user"),
        "ansible_host_key_checking": False,
        "ansible_python_interpreter": str(Path(program).parent / "python3"),
    }
    inventory.write_text(json.dumps({"all": {"hosts": {"device": facts}}}))
    settings = {
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_PERSISTENT_CONTROL_PATH_DIR": str(home / "pc"),
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        [program, "-i", str(inventory), str(playbook)], env={**os.environ, **settings}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed=0" in done.stdout
    assert lan_threshold(agent) == 7
    with agent.client() as local:
        events = [one.text for one in local.data("<get/>").iter() if one.tag == f"{IC}event"]
    assert events == ["commit", "confirmed", "confirm", "confirmed", "rollback-cancel"]


def test_a_client_that_is_killed_leaves_nothing(agent, sshd):
    connect = module("netconf_client.connect", "netconf-client")
    manager = module("netconf_client.ncclient", "netconf-client")
    session = connect.connect_ssh("127.0.0.1", sshd.port, username=getpass.getuser(), key_filename=str(sshd.home / "user"))
    client = manager.Manager(session, timeout=20)
    client.edit_config(CONFIG % ONE_PROXY, target="candidate")
    client.commit(confirmed=True)
    session.close()
    with agent.client() as local:
        eventually(lambda: local.config().find(f"{IC}igmp-proxy") is None, within_s=10)
    assert agent.engine.config is not None
    assert agent.engine.config.proxies == ()

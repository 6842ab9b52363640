"""ncclient, the client of the field, against the real sockets of the agent."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of paramiko and ncclient at import
    from ncclient import manager
    from ncclient.operations import RPCError

from tests.kit.netconf import ONE_PROXY, OURS, RunningService, eventually, threshold

CONFIG = '<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">%s</config>'


@pytest.fixture
def service(tmp_path: Path):
    with RunningService(tmp_path) as running:
        yield running


@contextlib.contextmanager
def connected(service: RunningService):
    with manager.connect_uds(path=str(service.socket_path), timeout=10) as session:
        yield session


def test_lock_edit_validate_confirmed_commit_confirm(service):
    with connected(service) as session:
        with session.locked("candidate"):
            session.edit_config(config=CONFIG % ONE_PROXY, target="candidate", default_operation="replace", error_option="rollback-on-error")
            session.validate("candidate")
            session.commit(confirmed=True, timeout="60", persist="token")
        assert service.engine.config is not None
        with connected(service) as fresh:
            fresh.commit(persist_id="token")
        assert "lan0" in session.get_config("running").data_xml
        assert "rollback" not in session.get(("subtree", f'<state xmlns="{OURS}"><history/></state>')).data_xml


def test_errors_are_what_ncclient_makes_of_them(service):
    with connected(service) as one, connected(service) as other:
        one.lock("candidate")
        with pytest.raises(RPCError) as refused:
            other.lock("candidate")
        assert (refused.value.type, refused.value.tag, refused.value.severity) == ("protocol", "lock-denied", "error")
        with pytest.raises(RPCError) as refused:
            one.edit_config(config=CONFIG % threshold(256), target="candidate")
        assert refused.value.tag == "invalid-value"
        assert "lan0" in refused.value.path
        assert "0..255" in refused.value.message


def test_capabilities_schemas_filters_and_defaults(service):
    with connected(service) as session:
        for wanted in (":candidate", ":confirmed-commit:1.1", ":validate:1.1", ":rollback-on-error", ":with-defaults"):
            assert wanted in session.server_capabilities
        assert ":writable-running" not in session.server_capabilities
        for module in ("igmpconf", "igmpconf-netconf"):
            assert f"module {module} {{" in session.get_schema(module).data
        session.edit_config(config=CONFIG % ONE_PROXY, target="candidate")
        session.commit()
        subtree = f'<igmp-proxy xmlns="{OURS}"><interfaces><interface>lan0</interface></interfaces></igmp-proxy>'
        assert "wan" not in session.get_config("running", filter=("subtree", subtree)).data_xml
        assert "threshold" in session.get_config("running", with_defaults="report-all").data_xml
        session.validate("candidate")
        session.copy_config(source="running", target="candidate")
        session.discard_changes()


def test_kill_session_and_what_it_undoes(service):
    with connected(service) as session:
        victim = manager.connect_uds(path=str(service.socket_path), timeout=10)
        victim.lock("candidate")
        victim.edit_config(config=CONFIG % ONE_PROXY, target="candidate")
        session.kill_session(victim.session_id)
        eventually(lambda: not victim.connected)
        session.lock("candidate")
        assert "igmp-proxy" not in session.get_config("candidate").data_xml


def test_a_refused_commit_says_what_the_kernel_said_and_what_to_do(service):
    with connected(service) as session:
        session.edit_config(config=CONFIG % ONE_PROXY, target="candidate")
        service.engine.refuse = 1
        with pytest.raises(RPCError, match="cannot add interface lan0; another multicast daemon runs"):
            session.commit(confirmed=True)
        with pytest.raises(RPCError, match="no confirmed commit waits"):
            session.cancel_commit()

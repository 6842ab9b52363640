"""ncclient, the client of the field, against the real sockets of the agent."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of paramiko and ncclient at import
    from ncclient import manager

from tests.kit.netconf import ONE_PROXY, OURS, RunningService

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

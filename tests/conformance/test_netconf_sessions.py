"""NETCONF, item by item, over the agent's socket: sections 1, 5 and 6 of the checklist, and what two sessions owe each other."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from igmpconf.netconf.framing import framed
from igmpconf.xmltext import parse
from tests.kit.netconf import BASE, HELLO_1_0, HELLO_1_1, NC, ONE_PROXY, Client, RunningService, edit_config, errors_of, eventually, threshold, threshold_in


@pytest.fixture
def service(tmp_path: Path):
    with RunningService(tmp_path) as running:
        with running.client() as client:
            client.edit(ONE_PROXY)
            client.ok("<commit/>")
        yield running


def is_reverted(service: RunningService) -> bool:
    return service.engine.config is not None and service.engine.config.proxies[0].interfaces[0].threshold is None


# 1. transport and session start


def test_nc_003_005_every_session_is_greeted_with_its_own_id(service):
    with Client.connected(service.socket_path, "") as one, Client.connected(service.socket_path, "") as other:
        assert one.session_id != other.session_id
        assert one.session_id > 0


def test_nc_008_010_014_both_framings(service):
    for hello in (HELLO_1_0, HELLO_1_1):
        with service.client(hello) as client:
            assert len(client.config()) == 1


def test_nc_011_octet_by_octet(service):
    with service.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        message = f'<rpc xmlns="{BASE}" message-id="é€😀"><get-config><source><running/></source></get-config></rpc>'.encode()
        stream = b"".join(b"\n#1\n" + message[i : i + 1] for i in range(len(message))) + b"\n##\n"
        for i in range(len(stream)):
            client.socket.sendall(stream[i : i + 1])
        reply = client.receive()
        assert parse(reply or b"").get("message-id") == "é€😀"


@pytest.mark.parametrize("garbage", [b"\n#0\n", b"\n#01\nx", b"garbage", b"\n#4294967295\n0123456789" * 2])
def test_nc_012_013_bad_framing_closes_this_session_only(service, garbage):
    with service.client() as client, service.client() as bystander:
        client.socket.sendall(garbage)
        assert client.is_ended()
        assert len(bystander.config()) == 1


@pytest.mark.parametrize("first", [HELLO_1_1.replace("</hello>", "<session-id>1</session-id></hello>"), HELLO_1_1.replace("base:1.", "base:2."), "<rpc/>", "x"])
def test_nc_006_007_018_bad_hellos_close(service, first):
    with Client.connected(service.socket_path, "") as client:
        client.socket.sendall(framed(first.encode(), is_chunked=False))
        assert client.is_ended()


def test_nc_016_a_document_type_is_refused_and_nothing_expands(service):
    with service.client() as client:
        laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
        client.send(f'{laughs}<rpc xmlns="{BASE}" message-id="1"><get>&b;</get></rpc>')
        (error,) = errors_of(parse(client.receive() or b""))
        assert error.kind == ("rpc", "malformed-message")
        assert len(client.config()) == 1


def test_nc_020_022_pipelined_and_closed_in_order(service):
    with service.client() as client:
        messages = [
            f'<rpc xmlns="{BASE}" message-id="{number}">{operation}</rpc>'
            for number, operation in enumerate(["<lock><target><candidate/></target></lock>", "<get/>", "<close-session/>", "<get/>"])
        ]
        client.socket.sendall(b"".join(framed(message.encode(), is_chunked=True) for message in messages))
        assert [parse(client.receive() or b"").get("message-id") for _ in range(3)] == ["0", "1", "2"]
        assert client.is_ended()
    with service.client() as client:
        client.lock()


def test_a_session_limit_refuses_the_one_too_many(service):
    clients = [Client.connected(service.socket_path, "") for _ in range(64)]
    with Client.connected(service.socket_path, "") as refused:
        assert refused.greeting == b""
    for client in clients:
        client.socket.close()
    eventually(lambda: is_greeted(service))


def is_greeted(service: RunningService) -> bool:
    with Client.connected(service.socket_path, "") as client:
        return client.greeting != b""


@pytest.mark.alone
def test_a_client_that_does_not_read_stops_nobody(service):
    with service.client() as lazy, service.client() as other:
        lazy.socket.settimeout(0.2)
        question = framed(f'<rpc xmlns="{BASE}" message-id="1"><get/></rpc>'.encode(), is_chunked=True)
        with pytest.raises(TimeoutError):  # at last the agent does not take more questions either
            lazy.socket.sendall(question * 100_000)
        began = time.monotonic()
        assert len(other.config()) == 1
        assert time.monotonic() - began < 2


# 5. locks


def test_nc_110_111_a_lock_keeps_others_from_writing_but_not_from_reading(service):
    with service.client() as holder, service.client() as other:
        holder.lock("candidate")
        holder.lock("running")
        for operation in (edit_config(threshold(7)), "<commit/>", "<discard-changes/>"):
            assert other.error(operation).kind == ("protocol", "in-use")
        for target in ("candidate", "running"):
            error = other.error(f"<lock><target><{target}/></target></lock>")
            assert (error.kind, error.info) == (("protocol", "lock-denied"), {"session-id": str(holder.session_id)})
        assert len(other.config("candidate")) == 1
        holder.edit(threshold(7))
        holder.ok("<commit/>")


def test_nc_112_a_modified_candidate_cannot_be_locked(service):
    with service.client() as one, service.client() as other:
        one.edit(threshold(7))
        error = other.error("<lock><target><candidate/></target></lock>")
        assert (error.kind, error.info) == (("protocol", "lock-denied"), {"session-id": "0"})
        one.ok("<discard-changes/>")
        other.lock()


@pytest.mark.parametrize("how", ["close-session", "kill-session", "reset", "end"])
@pytest.mark.alone
def test_nc_114_115_a_session_that_ends_frees_its_locks_and_discards_its_candidate(service, how):
    with service.client() as holder, service.client() as other:
        holder.lock()
        holder.edit(threshold(7))
        match how:
            case "close-session":
                holder.ok("<close-session/>")
            case "kill-session":
                other.ok(f"<kill-session><session-id>{holder.session_id}</session-id></kill-session>")
                assert holder.is_ended()
            case "reset":
                holder.socket.close()
            case "end":
                holder.socket.shutdown(socket.SHUT_WR)
                assert holder.is_ended()
        eventually(lambda: not errors_of(other.rpc("<lock><target><candidate/></target></lock>")), within_s=1)
        assert threshold_in(other.config("candidate")) is None


def test_nc_140_a_session_cannot_kill_itself(service):
    with service.client() as client:
        assert client.error(f"<kill-session><session-id>{client.session_id}</session-id></kill-session>").kind == ("protocol", "invalid-value")


def test_monitoring_shows_who_holds_the_lock(service):
    with service.client() as holder, service.client() as other:
        holder.lock()
        state = other.data('<get><filter><netconf-state xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"/></filter></get>')
        assert [one.text for one in state.iter() if one.tag.endswith("locked-by-session")] == [str(holder.session_id)]
        assert {one.text for one in state.iter() if one.tag.endswith("}session-id")} == {str(holder.session_id), str(other.session_id)}


# 6. confirmed commit


@pytest.mark.alone
def test_nc_120_121_the_timer_reverts(service):
    with service.client() as client:
        client.edit(threshold(7))
        began = time.monotonic()
        client.ok("<commit><confirmed/><confirm-timeout>1</confirm-timeout></commit>")
        assert threshold_in(client.config()) == "7"
        eventually(lambda: is_reverted(service), within_s=5)
        assert 0.95 <= time.monotonic() - began < 3
        eventually(lambda: threshold_in(client.config()) is None)


def test_nc_122_confirmed_in_time_stays(service):
    with service.client() as client:
        client.edit(threshold(7))
        client.ok("<commit><confirmed/><confirm-timeout>100</confirm-timeout></commit>")
        client.ok("<commit/>")
        assert client.error("<cancel-commit/>").kind == ("protocol", "operation-failed")
        assert threshold_in(client.config()) == "7"


@pytest.mark.alone
def test_nc_124_125_another_session_may_not_confirm_and_losing_the_session_reverts(service):
    with service.client() as owner, service.client() as other:
        owner.edit(threshold(7))
        owner.ok("<commit><confirmed/></commit>")
        assert other.error("<commit/>").kind == ("protocol", "in-use")
        owner.socket.close()
        eventually(lambda: is_reverted(service), within_s=1)
        other.ok("<commit/>")


def test_nc_126_persist_over_a_fresh_session(service):
    with service.client() as owner:
        owner.edit(threshold(7))
        owner.ok("<commit><confirmed/><persist>tok</persist></commit>")
    with service.client() as fresh:
        assert fresh.error("<commit><persist-id>other</persist-id></commit>").kind == ("protocol", "invalid-value")
        assert not is_reverted(service)
        fresh.ok("<commit><persist-id>tok</persist-id></commit>")
        assert threshold_in(fresh.config()) == "7"


def test_nc_128_cancel_over_a_fresh_session(service):
    with service.client() as owner:
        owner.edit(threshold(7))
        owner.ok("<commit><confirmed/><persist>tok</persist></commit>")
    with service.client() as fresh:
        assert fresh.error("<cancel-commit/>").kind == ("protocol", "invalid-value")
        fresh.ok("<cancel-commit><persist-id>tok</persist-id></cancel-commit>")
        assert is_reverted(service)


@pytest.mark.alone
def test_nc_129_killing_the_owner_reverts(service):
    with service.client() as owner, service.client() as other:
        owner.edit(threshold(7))
        owner.ok("<commit><confirmed/></commit>")
        other.ok(f"<kill-session><session-id>{owner.session_id}</session-id></kill-session>")
        eventually(lambda: is_reverted(service), within_s=1)


def test_nc_096_130_a_restart_keeps_what_was_committed_and_reverts_what_waited(tmp_path):
    with RunningService(tmp_path) as service, service.client() as client:
        client.edit(ONE_PROXY)
        client.ok("<commit/>")
        client.edit(threshold(7))
        client.ok("<commit><confirmed/><persist>tok</persist></commit>")
    with RunningService(tmp_path) as again, again.client() as client:
        assert is_reverted(again)
        assert len(client.config()) == 1
        assert client.error("<commit><persist-id>tok</persist-id></commit>").kind == ("protocol", "invalid-value")
        events = [one.text for one in client.data("<get/>").iter() if one.tag.endswith("}event")]
        assert events == ["commit", "confirmed", "rollback-restart"]


def test_nc_117_the_socket_is_the_only_way_in_and_has_the_right_mode(service):
    assert service.socket_path.stat().st_mode & 0o777 == 0o660


def test_replies_name_the_namespace_of_netconf(service):
    with service.client() as client:
        client.send(f'<nc:rpc xmlns:nc="{BASE}" message-id="1"><nc:get-config><nc:source><nc:running/></nc:source></nc:get-config></nc:rpc>')
        reply = parse(client.receive() or b"")
        assert (reply.tag, reply[0].tag) == (f"{NC}rpc-reply", f"{NC}data")

"""Who may do what (RFC 8341): netconf.md NC-002, NC-160 to NC-167, over real sessions of several users.

root                 everything, always: the recovery session
op                   in the device's group igmpconf
eve                  in a group that no rule knows
whoever the rules name
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from igmpconf.agent.access import user_of_socket
from igmpconf.agent.nacm import GUARDED
from igmpconf.netconf.framing import Decoder, framed
from igmpconf.schema.names import MODULES
from igmpconf.xmltext import parse
from tests.kit.conformance import covers
from tests.kit.netconf import BASE, HELLO_1_1, IC, ONE_PROXY, OURS, RunningService, edit_config, errors_of, eventually, threshold, threshold_in

NACM = "urn:ietf:params:xml:ns:yang:ietf-netconf-acm"
AC = f"{{{NACM}}}"
GET_NACM = f'<get><filter><nacm xmlns="{NACM}"/></filter></get>'
DENIED_EXEC = ("protocol", "access-denied")
DENIED_WRITE = ("application", "access-denied")
SUBSCRIBE = '<create-subscription xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"/>'


def rules(*lists: str, switches: str = "", groups: str = "") -> str:
    """`<nacm>` with these rule-lists; paths may use the prefixes ic and nacm."""
    known = f"<groups>{groups}</groups>" if groups else ""
    return f'<nacm xmlns="{NACM}" xmlns:ic="{OURS}" xmlns:nacm="{NACM}">{switches}{known}{"".join(lists)}</nacm>'


def rule_list(group: str, *entries: str, name: str = "list") -> str:
    return f"<rule-list><name>{name}</name><group>{group}</group>{''.join(entries)}</rule-list>"


def rule(action: str, name: str = "rule", **leaves: str) -> str:
    said = "".join(f"<{leaf.replace('_', '-')}>{text}</{leaf.replace('_', '-')}>" for leaf, text in leaves.items())
    return f"<rule><name>{name}</name>{said}<action>{action}</action></rule>"


EXEC = rule("permit", "exec", access_operations="exec")  # so that what is tested is the data


@pytest.fixture
def service(tmp_path: Path):
    with RunningService(tmp_path) as running:
        with running.client() as root:
            root.edit(ONE_PROXY)
            root.ok("<commit/>")
        yield running


def configure(service: RunningService, config: str) -> None:
    with service.client() as root:
        root.ok(edit_config(config))
        root.ok("<commit/>")


def counters(service: RunningService) -> dict[str, int]:
    with service.client() as root:
        (nacm,) = root.data(GET_NACM)
        return {one.tag.removeprefix(f"{AC}denied-"): int(one.text or "") for one in nacm if one.tag.startswith(f"{AC}denied-")}


# without any rules


@covers("NC-160", "NC-161")
def test_without_rules_readers_read_and_change_nothing(service):
    with service.client_of("eve") as eve:
        assert threshold_in(eve.config()) is None
        assert eve.config().find(f"{IC}igmp-proxy") is not None
        assert eve.data("<get/>").find(f"{IC}state") is not None
        eve.ok("<validate><source><running/></source></validate>")
        candidate = "<target><candidate/></target>"
        for operation in (
            edit_config(threshold(7)),
            f"<copy-config>{candidate}<source><running/></source></copy-config>",
            f"<lock>{candidate}</lock>",
            f"<unlock>{candidate}</unlock>",
            "<commit/>",
            "<cancel-commit/>",
            "<discard-changes/>",
            "<kill-session><session-id>1</session-id></kill-session>",
            f"<delete-config>{candidate}</delete-config>",
            SUBSCRIBE,
            f'<get-log xmlns="{OURS}"/>',
            f'<begin-capture xmlns="{OURS}"><interface>lo</interface></begin-capture>',
            f'<read-capture xmlns="{OURS}"><id>x</id></read-capture>',
            f'<end-capture xmlns="{OURS}"><id>x</id></end-capture>',
            '<edit-data xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-nmda"/>',
        ):
            assert eve.error(operation).kind == DENIED_EXEC, operation
        assert eve.error("<commit/>").path == "/nc:rpc/nc:commit"
        eve.ok("<close-session/>")  # NC-165: nobody is kept from leaving
    assert counters(service)["operations"] == 16


@covers("NC-160")
def test_without_rules_the_group_of_the_device_may_do_everything(service):
    with service.client_of("op", "igmpconf", "users") as op, service.client_of("eve") as eve:
        op.lock()
        op.edit(threshold(7))
        op.ok("<commit/>")
        op.ok(f"<kill-session><session-id>{eve.session_id}</session-id></kill-session>")
        assert eve.is_ended()
        op.ok(SUBSCRIBE)
        assert op.data(GET_NACM).find(f"{AC}nacm") is not None


def test_every_guarded_operation_is_one_that_there_is(service):
    """A name that is misspelt here would leave the operation open."""
    with service.client() as root:
        for module, name in GUARDED:
            errors = errors_of(root.rpc(f'<{name} xmlns="{MODULES[module][0]}"/>'))
            assert not any(one.kind == ("protocol", "operation-not-supported") and "no operation" in one.message for one in errors), name


# the rules of RFC 8341


@covers("NC-160")
def test_the_defaults_are_those_of_the_module(service):
    with service.client() as root:
        (nacm,) = root.data(
            f'<get-config><source><running/></source><filter><nacm xmlns="{NACM}"/></filter>'
            '<with-defaults xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-with-defaults">report-all</with-defaults></get-config>'
        )
    said = {one.tag.removeprefix(AC): one.text for one in nacm}
    assert said == {
        "enable-nacm": "true",
        "read-default": "permit",
        "write-default": "deny",
        "exec-default": "permit",
        "enable-external-groups": "true",
    }


# what is asked, and which of the rules makes that permitted, or not, to somebody of group "staff"
MATRIX = [
    pytest.param("<lock><target><candidate/></target></lock>", entry, permitted, id=name)
    for name, entry, permitted in (
        ("no rule", "", False),
        ("module", rule("permit", module_name="ietf-netconf"), True),
        ("another module", rule("permit", module_name="igmpconf"), False),
        ("any module", rule("permit", module_name="*"), True),
        ("operation", rule("permit", rpc_name="lock"), True),
        ("another operation", rule("permit", rpc_name="unlock"), False),
        ("any operation", rule("permit", rpc_name="*"), True),
        ("operation of another module", rule("permit", module_name="igmpconf", rpc_name="lock"), False),
        ("right access", rule("permit", access_operations="read exec"), True),
        ("wrong access", rule("permit", access_operations="create read update delete"), False),
        ("a rule for data", rule("permit", path="/"), False),
        ("a rule for notifications", rule("permit", notification_name="*"), False),
        ("the first that matches", rule("deny", "a", rpc_name="lock") + rule("permit", "b"), False),
        ("and not one before it", rule("deny", "a", rpc_name="unlock") + rule("permit", "b"), True),
    )
]


@covers("NC-165")
@pytest.mark.parametrize(("operation", "entry", "permitted"), MATRIX)
def test_rules_for_operations(service, operation, entry, permitted):
    configure(service, rules(rule_list("staff", entry)))
    with service.client_of("sam", "staff") as sam, service.client_of("eve") as eve:
        reply = sam.rpc(operation)
        assert ([one.kind for one in errors_of(reply)] == []) is permitted
        if not permitted:
            assert errors_of(reply)[0].kind == DENIED_EXEC
        assert eve.error(operation).kind == DENIED_EXEC  # the list is for another group


@covers("NC-165")
def test_rule_lists_in_order_and_groups_of_the_rules_beside_those_of_the_device(service):
    group = "<group><name>staff</name><user-name>sam</user-name></group>"
    lists = (rule_list("other", rule("deny"), name="a"), rule_list("staff", rule("permit"), name="b"), rule_list("*", rule("deny"), name="c"))
    configure(service, rules(*lists, groups=group))
    with service.client_of("sam") as sam, service.client_of("eve") as eve:
        sam.lock()
        assert eve.error("<get/>").kind == DENIED_EXEC
    # what the rules say of somebody's group on the device holds no more without external groups
    configure(service, rules(rule_list("other", rule("deny"), name="a"), switches="<enable-external-groups>false</enable-external-groups>"))
    with service.client_of("eve", "other", "igmpconf") as eve, service.client_of("sam") as sam:
        assert eve.data("<get/>") is not None
        assert eve.error("<commit/>").kind == DENIED_EXEC
        sam.lock()


@covers("NC-160")
def test_the_switches(service):
    configure(service, rules(switches="<exec-default>permit</exec-default>"))
    with service.client_of("eve") as eve:
        eve.lock()
        assert eve.error(edit_config(threshold(7))).kind == DENIED_WRITE  # write-default is deny
        assert eve.error("<kill-session><session-id>1</session-id></kill-session>").kind == DENIED_EXEC  # NC-161
    configure(service, rules(switches="<write-default>permit</write-default>"))
    with service.client_of("eve") as eve:
        eve.edit(threshold(7))
        assert eve.error(edit_config(rules(switches="<enable-nacm>false</enable-nacm>"))).kind == DENIED_WRITE  # default-deny-all
        eve.ok("<discard-changes/>")
    configure(service, rules(switches="<exec-default>deny</exec-default>"))
    with service.client_of("eve") as eve:
        assert eve.error("<get/>").kind == DENIED_EXEC
    configure(service, rules(switches="<exec-default>permit</exec-default><read-default>deny</read-default>"))
    with service.client_of("eve") as eve:
        assert len(eve.data("<get/>")) == 0
    configure(service, rules(switches="<enable-nacm>false</enable-nacm>"))
    with service.client_of("eve") as eve:
        eve.edit(threshold(9))
        eve.ok("<commit/>")
        assert eve.data(GET_NACM).find(f"{AC}nacm") is not None


@covers("NC-162")
def test_what_may_not_be_read_is_absent_and_no_filter_finds_it(service):
    secret = "/ic:igmp-proxy[ic:name='default']/ic:interfaces[ic:interface='lan0']"
    configure(
        service,
        rules(rule_list("*", rule("deny", path=secret), rule("deny", "b", path="/ic:state/ic:history"), rule("deny", "c", module_name="ietf-yang-library"))),
    )
    with service.client_of("eve") as eve, service.client_of("op", "igmpconf") as op:
        for client in (eve, op):  # the system's own rules come last
            assert [one.text for one in client.config().iter(f"{IC}interface")] == ["wan"]
            subtree = f'<igmp-proxy xmlns="{OURS}"><interfaces><interface>lan0</interface></interfaces></igmp-proxy>'
            assert client.data(f"<get-config><source><candidate/></source><filter>{subtree}</filter></get-config>").find(f".//{IC}interface") is None
            found = client.data("<get/>")
            assert found.find(f"{IC}state/{IC}agent") is not None
            assert found.find(f"{IC}state/{IC}history") is None
            assert not [one for one in found if "yang-library" in one.tag]
            old = client.rpc(f'<get-commit xmlns="{OURS}"><number>1</number></get-commit>')
            assert [one.text for one in old.iter(f"{IC}interface")] == ["wan"]
        assert eve.data(GET_NACM).find(f"{AC}nacm") is None
    with service.client() as root:
        assert [one.text for one in root.config().iter(f"{IC}interface")] == ["lan0", "wan"]


@covers("NC-163")
def test_what_may_be_written_and_what_may_not(service):
    lan0 = "/ic:igmp-proxy/ic:interfaces[ic:interface='lan0']"
    configure(
        service,
        rules(rule_list("staff", EXEC, rule("permit", path=f"{lan0}/ic:threshold", access_operations="create update"), rule("deny", "d", path="/ic:vlans"))),
    )
    with service.client_of("sam", "staff") as sam:
        sam.edit(threshold(7))
        sam.edit(threshold(8))
        sam.ok(edit_config(ONE_PROXY))  # names what is there: nothing is altered
        remove = threshold(8).replace("<threshold>", '<threshold xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="delete">')
        error = sam.error(edit_config(remove))
        assert error.kind == DENIED_WRITE
        assert error.path == f"/ic:igmp-proxy[ic:name='default']{lan0.removeprefix('/ic:igmp-proxy')}/ic:threshold"
        both = threshold(9).replace("</threshold>", "</threshold><query-interval>60s</query-interval>")
        assert sam.error(edit_config(both)).kind == DENIED_WRITE  # the whole request
        assert threshold_in(sam.config("candidate")) == "8"
        vlan = f'<vlans xmlns="{OURS}"><name>v1</name><interface>wan</interface><vlan-id>5</vlan-id></vlans>'
        assert sam.error(edit_config(vlan)).path == "/"  # which he may not even read
        assert sam.error(edit_config(ONE_PROXY, default_operation="replace")).kind == DENIED_WRITE  # it would take the threshold away
        sam.ok("<commit/>")
        assert sam.error("<copy-config><target><candidate/></target><source><config/></source></copy-config>").kind == DENIED_WRITE
        mixed = sam.rpc(edit_config(threshold(3) + vlan, error_option="continue-on-error"))
        assert [one.kind for one in errors_of(mixed)] == [DENIED_WRITE]
        assert threshold_in(sam.config("candidate")) == "3"
    assert counters(service)["data-writes"] == 6
    assert counters(service)["operations"] == 0


@covers("NC-163", "NC-165")
def test_a_rule_below_a_new_entry_counts_too(service):
    configure(
        service,
        rules(rule_list("staff", EXEC, rule("deny", "a", path="/ic:igmp-proxy/ic:interfaces/ic:threshold"), rule("permit", "b", path="/ic:igmp-proxy"))),
    )
    lan1 = ONE_PROXY.replace("<interface>lan0</interface>", "<interface>lan1</interface>%s")
    with service.client_of("sam", "staff") as sam:
        assert sam.error(edit_config(lan1 % "<threshold>1</threshold>")).kind == DENIED_WRITE
        sam.ok(edit_config(lan1 % ""))
        sam.ok("<commit/>")


@covers("NC-164")
def test_commit_looks_at_what_differs_and_discard_at_nothing(service):
    configure(service, rules(rule_list("staff", EXEC)))
    with service.client_of("sam", "staff") as sam, service.client() as root:
        sam.ok("<commit/>")
        root.edit(threshold(7))
        error = sam.error("<commit/>")
        assert error.kind == DENIED_WRITE
        assert "threshold" in (error.path or "")
        sam.ok("<discard-changes/>")
        assert threshold_in(root.config("candidate")) is None


@covers("NC-165", "NC-167")
def test_notifications(service):
    configure(
        service,
        rules(
            rule_list(
                "staff",
                EXEC,
                rule("deny", "a", module_name="ietf-netconf-notifications", notification_name="netconf-session-start", access_operations="read"),
                rule("permit", "b", notification_name="netconf-session-end"),
                rule("deny", "c", module_name="ietf-netconf-notifications", access_operations="read"),
                rule("deny", "d", module_name="nc-notifications", notification_name="*"),
            )
        ),
    )
    with service.client_of("sam", "staff") as sam, service.client_of("eve") as eve:
        sam.ok('<create-subscription xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"><startTime>2020-01-01T00:00:00Z</startTime></create-subscription>')
        first = sam.receive() or b""
        while b"replayComplete" not in first:  # always permitted
            assert b"netconf-session-end" in first
            first = sam.receive() or b""
        configure(service, threshold(7))
        eve.ok("<close-session/>")
        seen = [sam.receive() or b"" for _ in range(2)]
    assert all(b"netconf-session-end" in one for one in seen)
    eventually(lambda: counters(service)["notifications"] >= 3)


@covers("NC-166")
def test_a_recovery_session_repairs_what_nobody_else_could(service):
    configure(service, rules(rule_list("*", rule("deny"))))
    with service.client_of("op", "igmpconf") as op, service.client() as root:
        for operation in ("<get/>", "<commit/>", GET_NACM):
            assert op.error(operation).kind == DENIED_EXEC
        nacm = f'<nacm xmlns="{NACM}" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="delete"/>'
        root.ok(edit_config(nacm))
        root.ok("<commit/>")
        op.lock()


@covers("NC-165")
def test_the_user_of_a_path(service):
    """$USER in a predicate: everybody his own instance."""
    configure(service, rules(rule_list("*", EXEC, rule("permit", path="/ic:igmp-proxy[ic:name=$USER]"))))
    mine = ONE_PROXY.replace("default", "sam").replace("wan", "wan9").replace("lan0", "lan9")
    with service.client_of("sam") as sam:
        sam.ok(edit_config(mine))
        sam.ok("<commit/>")
        assert sam.error(edit_config(threshold(7))).kind == DENIED_WRITE


# the rules as configuration


@covers("NC-083")
def test_the_rules_are_ordered_by_the_user(service):
    yang = 'xmlns:yang="urn:ietf:params:xml:ns:yang:1"'
    configure(service, rules(rule_list("*", rule("permit", "a"), rule("permit", "b"))))

    def insert(entry: str, where: str) -> str:
        return rules(rule_list("*", entry.replace("<rule>", f"<rule {yang} {where}>")))

    def names(client) -> list[str | None]:
        return [one.text for one in client.config("candidate").findall(f".//{AC}rule/{AC}name")]

    with service.client() as root:
        root.ok(edit_config(insert(rule("deny", "c"), 'yang:insert="first"')))
        root.ok(edit_config(insert(rule("deny", "d"), """yang:insert="before" yang:key="[nacm:name='b']\"""")))
        root.ok(edit_config(insert(rule("deny", "e"), """yang:insert="after" yang:key='[nacm:name="a"]'""")))
        root.ok(edit_config(insert(rule("deny", "f"), "")))
        assert names(root) == ["c", "a", "e", "d", "b", "f"]
        root.ok(edit_config(insert(rule("deny", "c"), 'yang:insert="last"')))  # one that is there moves
        assert names(root) == ["a", "e", "d", "b", "f", "c"]
        missing = root.error(edit_config(insert(rule("deny", "x"), """yang:insert="before" yang:key="[nacm:name='gone']\"""")))
        assert (missing.kind, missing.app_tag) == (("protocol", "bad-attribute"), "missing-instance")
        assert root.error(edit_config(insert(rule("deny", "x"), 'yang:insert="up"'))).info["bad-attribute"] == "insert"
        assert root.error(edit_config(insert(rule("deny", "x"), 'yang:insert="after"'))).info["bad-attribute"] == "key"
        sequence = f'<igmp-proxy xmlns="{OURS}" {yang} yang:insert="first"><name>default</name></igmp-proxy>'
        assert root.error(edit_config(sequence)).kind == ("protocol", "unknown-attribute")
        root.ok("<commit/>")
        assert names(root) == ["a", "e", "d", "b", "f", "c"]


@pytest.mark.parametrize(
    ("entry", "leaf"),
    [
        (rule("permit", path="/ic:igmp-proxy[1]"), "path"),
        (rule("permit", path="ic:igmp-proxy"), "path"),
        (rule("permit", path="/igmp-proxy"), "path"),
        (rule("permit", path="/xx:igmp-proxy"), "path"),
        (rule("permit", access_operations="read write"), "access-operations"),
        (rule("allow"), "action"),
        (rule("permit", rpc_name="a", notification_name="b"), "rule"),
        ("<rule><name>x</name></rule>", "action"),
    ],
)
def test_rules_that_cannot_be(service, entry, leaf):
    with service.client() as root:
        error = root.error(edit_config(rules(rule_list("*", entry))))
    assert leaf in (error.info.get("bad-element"), (error.path or "").rpartition(":")[2])


def test_a_case_of_a_rule_takes_the_place_of_another(service):
    configure(service, rules(rule_list("*", rule("permit", rpc_name="get"))))
    configure(service, rules(rule_list("*", rule("permit", path="/ic:igmp-proxy"))))
    with service.client() as root:
        found = root.config().find(f".//{AC}rule")
        assert found is not None
        assert {one.tag.removeprefix(AC) for one in found} == {"name", "path", "action"}
        assert found.findtext(f"{AC}path") == "/ic:igmp-proxy"


def test_the_rules_survive_a_restart_and_are_undone_with_the_commit_that_waits(tmp_path):
    with RunningService(tmp_path) as first, first.client() as root:
        root.ok(edit_config(rules(rule_list("*", rule("deny", path="/ic:state"), name="kept"))))
        root.ok("<commit/>")
        root.ok(edit_config(rules(rule_list("*", rule("deny"), name="undone"))))
        root.ok("<commit><confirmed/><persist>x</persist></commit>")
        root.ok("<lock><target><candidate/></target></lock>")
        digest = root.data(f'<get><filter><state xmlns="{OURS}"/></filter></get>').findtext(f".//{IC}running-digest")
    with RunningService(tmp_path) as second, second.client() as root, second.client_of("eve") as eve:
        assert [one.text for one in root.config().findall(f".//{AC}rule-list/{AC}name")] == ["kept"]
        assert root.config().findtext(f".//{AC}path") == "/ic:state"
        assert eve.data("<get/>").find(f"{IC}state") is None
        state = root.data(f'<get><filter><state xmlns="{OURS}"/></filter></get>')
        assert state.findtext(f".//{IC}running-digest") == digest  # rules are no part of what a plan compares
        assert "~ nacm" in [one.text for one in state.iter(f"{IC}diff")]  # told, but not shown to those who may not read them


def test_the_example_of_the_documentation_does_what_it_says(service):
    page = (Path(__file__).parents[2] / "docs" / "netconf.md").read_text()
    lines = page[page.index("    <nacm ") :].splitlines()
    configure(service, "\n".join(itertools.takewhile(lambda line: line.startswith("    "), lines)))
    with service.client_of("ann") as ann, service.client_of("fred", "field") as fred, service.client_of("eve") as eve:
        assert not errors_of(ann.rpc(f'<get-log xmlns="{OURS}"/>'))
        ann.ok(SUBSCRIBE)
        assert ann.error("<commit/>").kind == DENIED_EXEC
        fred.lock()
        fred.edit(threshold(7))
        fred.ok("<commit><confirmed/></commit>")
        fred.ok("<commit/>")
        assert fred.error(edit_config(threshold(7).replace("lan0", "wan"))).kind == DENIED_WRITE
        assert fred.error(f"<kill-session><session-id>{eve.session_id}</session-id></kill-session>").kind == DENIED_EXEC
        assert eve.error(SUBSCRIBE).kind == DENIED_EXEC


# the door

ASK = """
import socket, sys
door = socket.socket(socket.AF_UNIX)
try:
    door.connect(sys.argv[1])
except PermissionError:
    sys.exit("refused")
door.sendall(sys.stdin.buffer.read())
door.shutdown(socket.SHUT_WR)
while heard := door.recv(65536):
    sys.stdout.buffer.write(heard)
"""


@covers("NC-002", "NC-117")
def test_the_socket_lets_in_whom_it_says():
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin")
    if os.geteuid() != 0 or python is None:
        pytest.skip("only root can become somebody else, with a Python that everybody may use")
    nobody, stranger = 65534, 64999
    with tempfile.TemporaryDirectory() as home, RunningService(Path(home)) as service:
        Path(home).chmod(0o711)  # a directory that anybody may pass
        found = service.socket_path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o660

        def seen(uid: int, gid: int, *groups: int) -> str:
            asked = framed(HELLO_1_1.encode(), is_chunked=False)
            for operation in (
                f'<get><filter><netconf-state xmlns="{MODULES["ietf-netconf-monitoring"][0]}"><sessions/></netconf-state></filter></get>',
                "<commit/>",
            ):
                asked += framed(f'<rpc xmlns="{BASE}" message-id="1">{operation}</rpc>'.encode(), is_chunked=True)
            command = [python, "-I", "-c", ASK, str(service.socket_path)]
            done = subprocess.run(command, input=asked, capture_output=True, user=uid, group=gid, extra_groups=groups, cwd="/", timeout=30, check=False)
            if done.returncode:
                return done.stderr.decode().strip()
            decoder = Decoder()
            decoder.feed(done.stdout)
            decoder.next_message()
            decoder.use_chunks()
            sessions, commit = (parse(decoder.next_message() or b"") for _ in range(2))
            (name,) = [one.text for one in sessions.iter() if one.tag.endswith("}username")]
            return f"{name}: {errors_of(commit)[0].kind[1] if errors_of(commit) else 'ok'}"

        assert seen(stranger, stranger) == "refused"
        assert seen(nobody, nobody, found.st_gid) == "nobody: access-denied"
        assert seen(stranger, found.st_gid) == f"uid-{stranger}: access-denied"
        assert seen(0, 0) == "root: ok"


@covers("NC-002")
def test_the_user_is_the_one_at_the_other_end_whatever_he_says():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        user = user_of_socket(ours)
    assert user.is_recovery  # the agent's own user
    assert user.source == f"process {os.getpid()}"
    assert user.groups

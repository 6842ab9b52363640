"""What users get wrong: each mistake has its own words, its place, a hint, and the exit code of the contract."""

from __future__ import annotations

import pytest

CASES = {
    "unknown key": ("igmp-proxy:\n  - interfaces:\n      - {interface: wan, upstream: yes, treshold: 3}\n", "3:41", "unknown key", "did you mean 'threshold'?"),
    "wrong type": ("igmp-proxy:\n  - interfaces:\n      - {interface: wan, upstream: perhaps}\n", "3:36", "upstream", "yes or no"),
    "out of range": ("igmp-proxy:\n  - interfaces:\n      - {interface: wan, upstream: yes, threshold: 300}\n", "3:52", "threshold", "0..255"),
    "duplicate key": ("igmp-proxy:\n  - name: a\n    name: b\n", "3:5", "name", ""),
    "tabs": ("igmp-proxy:\n\t- name: a\n", "2:1", "tab", ""),
    "empty file": ("", "", "empty", ""),
    "binary": ("\x00\x01\x02", "", "", ""),
    "two upstreams": ("igmp-proxy:\n  - interfaces:\n      - {interface: wan, upstream: yes}\n      - {interface: lan0, upstream: yes}\n", "", "wan", "lan0"),
    "no upstream": ("igmp-proxy:\n  - interfaces: [lan0]\n", "", "upstream", ""),
    "both roles": ("igmp-proxy:\n  - interfaces:\n      - {interface: wan, upstream: yes}\n      - {interface: wan, upstream: no}\n", "4:9", "wan", "role"),
    "response above interval": (
        "igmp-proxy:\n  - interfaces:\n      - {interface: wan, upstream: yes}\n      - {interface: lan0, query-interval: 5s, query-response-interval: 6s}\n",
        "4:",
        "query-response-interval",
        "",
    ),
    "static entry without interface": (
        "igmp-proxy:\n  - interfaces: [{interface: wan, upstream: yes}, lan0]\n    mfc: {group: 239.1.1.1, downstream-interface: lan9}\n",
        "3:",
        "lan9",
        "lan0",
    ),
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize(
    "verb", [("validate",), ("plan", "-d", "unix:/nowhere", "-f"), ("apply", "--yes", "-d", "unix:/nowhere", "-f")], ids=lambda verb: verb[0]
)
def test_a_mistake_in_the_file_is_told_with_its_place_before_any_device_is_asked(igmpconf, place, case, verb):
    text, where, what, hint = CASES[case]
    (place / "bad.yaml").write_text(text)
    said = igmpconf(*verb, "bad.yaml")
    assert said.code == 3, said
    assert f"bad.yaml:{where}" in said.err
    assert what in said.err
    assert hint in said.err
    assert "Traceback" not in said.err
    assert "nowhere" not in said.err


def test_all_complaints_of_all_files_come_at_once(igmpconf, place):
    (place / "a.yaml").write_text(CASES["unknown key"][0])
    (place / "b.yaml").write_text(CASES["out of range"][0])
    said = igmpconf("validate", "a.yaml", "b.yaml", "home.yaml", "missing.yaml")
    assert said.code == 3
    assert "a.yaml:3:41" in said.err
    assert "b.yaml:3:52" in said.err
    assert "missing.yaml" in said.err
    assert "home.yaml: valid" in said.out


def test_a_missing_device_is_named_with_those_that_are_known(igmpconf, place):
    (place / "inventory").mkdir()
    (place / "inventory" / "hosts.yaml").write_text("all: {hosts: {router1: , router2: }}\n")
    said = igmpconf("plan", "-f", "home.yaml", "-d", "router9")
    assert said.code == 3
    assert "there is no device 'router9'" in said.err
    assert "router1, router2" in said.err
    assert igmpconf("plan", "-f", "home.yaml", "-l", "nobody").code == 3


@pytest.mark.parametrize(
    "verb", [("plan", "-f", "home.yaml"), ("apply", "-f", "home.yaml", "--yes"), ("show", "groups"), ("history",), ("agent", "status"), ("rollback", "--yes")]
)
def test_an_agent_that_is_not_running_is_told_with_the_way_to_start_it(igmpconf, place, verb):
    said = igmpconf(*verb, "-d", f"unix:{place}/agent.sock")
    assert said.code == 5
    assert "the agent is not running: there is no socket" in said.err
    assert "hint: start it: igmpconf-agent run --socket" in said.err


def test_a_socket_that_nobody_listens_on_is_not_an_agent(igmpconf, place):
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / "dead.sock"))
    said = igmpconf("show", "mfc", "-d", f"unix:{place}/dead.sock")
    assert said.code == 5
    assert "nobody listens" in said.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[]", "not a plan"),
        ('{"format": "igmpconf-plan/99"}', "igmpconf-plan/99"),
        ("igmp-proxy: []", "not JSON"),
    ],
)
def test_what_is_not_a_plan_is_not_applied(igmpconf, place, text, words):
    (place / "plan.json").write_text(text)
    said = igmpconf("apply", "plan.json", "--yes")
    assert said.code == 3
    assert words in said.err


def test_a_plan_that_somebody_edited_is_not_applied(igmpconf, place, agent):
    assert igmpconf("plan", "-f", "home.yaml", "-o", "plan.json").code == 0
    path = place / "plan.json"
    path.write_text(path.read_text().replace("wan", "wan2"))
    said = igmpconf("apply", "plan.json", "--yes")
    assert said.code == 3
    assert "was changed after it was made" in said.err
    assert agent.engine.config.proxies == ()


def test_a_desired_state_given_as_plan_says_how_to_apply_it(igmpconf, place):
    said = igmpconf("apply", "home.yaml", "--yes")
    assert said.code == 3
    assert "igmpconf apply -f home.yaml" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plann",), "did you mean 'plan'"),
        (("apply", "--confirm-timeout", "60", "-f", "home.yaml"), "write 60s"),
        (("apply", "--confirm-timeout", "1s", "-f", "home.yaml"), "3s..1h"),
        (("plan", "-d", "a", "-l", "b", "-f", "home.yaml"), "exclude"),
        (("show", "nothing"), "groups"),
        (("apply", "plan.json", "-f", "home.yaml"), "no -f"),
        (("validate",), "name the files"),
        (("plan", "--format", "xml"), "markdown"),
    ],
)
def test_wrong_usage_is_64(igmpconf, arguments, words):
    said = igmpconf(*arguments)
    assert said.code == 64
    assert words in said.err
    assert said.out == ""


@pytest.mark.parametrize("address", ["ssh://", "ssh://host:port", "ssh://u:secret@host", "unix:"])
def test_an_address_that_is_none_is_told_without_its_secret(igmpconf, address):
    said = igmpconf("show", "groups", "-d", address)
    assert said.code == 3
    assert "secret" not in said.err


def test_a_mistake_of_ours_is_one_line_unless_asked_for(igmpconf, monkeypatch):
    monkeypatch.setattr("igmpconf.cli.devices.chosen", lambda *_: 1 / 0)
    monkeypatch.setattr("igmpconf.cli.show.chosen", lambda *_: 1 / 0)
    said = igmpconf("show", "groups")
    assert said.code == 1
    assert "ZeroDivisionError" in said.err
    assert "Traceback" not in said.err
    assert "Traceback" in igmpconf("--debug", "show", "groups").err

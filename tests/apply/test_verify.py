from __future__ import annotations

import dataclasses
from ipaddress import ip_address

import pytest

from igmpconf.apply.verify import findings
from igmpconf.model.canon import digest, from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import AgentState, DeviceState, GroupRow, InterfaceRow, MfcRow, QuerierState
from igmpconf.plan.plan import planned

PLAIN = {
    "interfaces": [{"interface": "wan", "upstream": True}, "lan0", "lan1"],
    "mfc": [{"source": "192.0.2.5", "group": "239.9.9.9", "downstream-interface": "lan0"}],
}
A = from_plain(DeviceConfig, {"igmp-proxy": [PLAIN]})
B = from_plain(DeviceConfig, {"igmp-proxy": [{**PLAIN, "robustness": 3}]})
G1, G2 = "239.1.1.1", "239.1.1.2"


def interface(name: str, *, up: bool = True, querier: bool = True) -> InterfaceRow:
    known = QuerierState(address=ip_address("10.0.0.1"), self_=True) if querier and up and name != "wan" else None
    role = "upstream" if name.startswith("wan") else "downstream"
    return InterfaceRow(instance="default", interface=name, family="ipv4", role=role, enabled=True, up=up, querier=known)


def state(*, running=B, interfaces=("wan", "lan0", "lan1"), groups=((G1, "lan0"), (G2, "lan0")), forwarded=None, static=True) -> DeviceState:
    rows = [one if isinstance(one, InterfaceRow) else interface(one) for one in interfaces]
    mfc = [
        MfcRow(instance="default", family="ipv4", source="*", group=ip_address(group), upstream="wan", downstreams=(name,), kind="learned", state="forwarding")
        for group, name in (groups if forwarded is None else forwarded)
    ]
    if static:
        mfc.append(
            MfcRow(
                instance="default",
                family="ipv4",
                source=ip_address("192.0.2.5"),
                group=ip_address("239.9.9.9"),
                upstream="wan",
                downstreams=("lan0",),
                kind="static",
                state="waiting-for-data",
            )
        )
    return DeviceState(
        agent=AgentState(running_digest=digest(running)),
        interfaces=tuple(rows),
        groups=tuple(GroupRow(instance="default", interface=name, group=ip_address(group), mode="exclude") for group, name in groups),
        mfc=tuple(mfc),
    )


BEFORE = state(running=A)


def found(now: DeviceState, *, before=BEFORE, a=A, b=B, allow_down=()):
    return findings(planned("r", a, b, before), before, now, allow_down=allow_down)


def missing(now: DeviceState, **more) -> list[str]:
    return [fact.message for fact in found(now, **more).missing]


def test_all_is_well():
    assert found(state()) == found(state(), allow_down=("x",))
    assert missing(state()) == []
    assert found(state()).warnings == ()


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (state(running=A), "not the target"),
        (state(interfaces=(interface("wan", up=False), "lan0", "lan1")), "upstream wan of default is absent or down"),
        (state(interfaces=("lan0", "lan1")), "upstream wan of default is absent or down"),
        (state(interfaces=("wan", interface("lan0", up=False), "lan1")), "downstream lan0 of default was up and is absent or down"),
        (state(interfaces=("wan", "lan0")), "downstream lan1 of default was up and is absent or down"),
        (state(interfaces=("wan", interface("lan0", querier=False), "lan1")), "no querier is known on lan0"),
        (state(static=False), "permanent entry (192.0.2.5, 239.9.9.9) of default is not in the kernel"),
        (state(forwarded=((G2, "lan0"),)), f"{G1} is still wanted on lan0 and no longer forwarded there"),
        (state(groups=()), f"every group ended on lan0: {G1}, {G2}"),
    ],
)
def test_a_fact_that_is_missing_has_its_words_and_a_hint(now, words):
    assert any(words in message for message in missing(now)), missing(now)
    assert all(fact.hint for fact in found(now).missing)


def test_what_was_down_before_is_a_warning():
    before = state(running=A, interfaces=(interface("wan", up=False), "lan0", interface("lan1", up=False)))
    now = state(interfaces=(interface("wan", up=False), "lan0", interface("lan1", up=False)), static=False)
    result = found(now, before=before)
    assert result.missing == ()
    assert any("as before this change" in warning for warning in result.warnings)
    assert any("lan1 of default is not up yet" in warning for warning in result.warnings)
    assert any("permanent entry" in warning for warning in result.warnings)


def test_the_user_may_allow_an_interface_to_be_down():
    now = state(interfaces=(interface("wan", up=False), interface("lan0", up=False), "lan1"), static=False, groups=())
    assert missing(now, allow_down=("wan", "lan*")) == [f"every group ended on lan0: {G1}, {G2}"]


def test_one_viewer_who_leaves_is_no_failure():
    result = found(state(groups=((G2, "lan0"),)))
    assert result.missing == ()
    assert result.warnings == (f"{G1} ended on lan0 meanwhile",)


def test_groups_that_the_plan_gave_up_are_not_missed():
    b = from_plain(DeviceConfig, {"igmp-proxy": [{**PLAIN, "groups": [{"action": "deny", "group": "239.1.1.0/24"}]}]})
    assert missing(state(running=b, groups=()), b=b) == []


def test_an_instance_that_is_off_owes_nothing():
    b = from_plain(DeviceConfig, {"igmp-proxy": [{**PLAIN, "enabled": False}]})
    assert missing(state(running=b, interfaces=(), groups=(), static=False), b=b) == []


def test_a_new_downstream_may_come_later():
    b = from_plain(DeviceConfig, {"igmp-proxy": [{**PLAIN, "interfaces": [*PLAIN["interfaces"], "ppp*"]}]})
    result = found(state(running=b), b=b)
    assert result.missing == ()
    assert "downstream ppp* of default is not up yet" in result.warnings[0]


def test_an_agent_that_does_not_tell_its_digest_is_trusted_by_its_facts():
    assert missing(dataclasses.replace(state(), agent=None)) == []


def test_a_pattern_does_not_answer_for_a_neighbour_with_an_entry_of_its_own():
    entries = [{"interface": "wan", "upstream": True}, "ppp*", {"interface": "ppp1", "enabled": False}]
    b = from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": entries}]})
    a = from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": entries[:2]}]})
    before = state(running=a, interfaces=("wan", "ppp0", "ppp1"), groups=(), static=False)
    now = state(running=b, interfaces=("wan", "ppp0", interface("ppp1", up=False)), groups=(), static=False)
    assert missing(now, a=a, b=b, before=before) == []  # ppp1 was switched off on purpose; `ppp*` has ppp0
    gone = state(running=b, interfaces=("wan", interface("ppp0", up=False), "ppp1"), groups=(), static=False)
    assert missing(gone, a=a, b=b, before=before) == ["downstream ppp0 of default was up and is absent or down"]
    assert "downstream ppp* of default is not up yet" in " ".join(found(gone, a=a, b=b, before=before).warnings)

from __future__ import annotations

from xml.etree import ElementTree as ET

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.plan.junit import junit
from igmpconf.plan.markdown import LEAST, markdown
from igmpconf.plan.plan import Plan, planned
from igmpconf.plan.render import summary, text
from tests.plan.test_impact import BASE, STATE, edited

A = from_plain(DeviceConfig, {"igmp-proxy": [BASE]})
B = from_plain(
    DeviceConfig,
    {
        "igmp-proxy": [
            edited(
                lan0={"query-interval": 3125, "alternative-subnets": ["10.0.0.0/8"]}, lan1=None, new={"interface": "lan7", "threshold": 3}, robustness=3, mfc=[]
            )
        ]
    },
)
WRITTEN = {"r": {"igmp-proxy[default]/interfaces[lan0]/query-interval": "3125"}}


def plan(a=A, b=B, state=STATE) -> Plan:
    return Plan(plan_id="p1", devices=(planned("r", a, b, state),))


def test_the_text_of_a_plan():
    assert (
        text(plan(), written=WRITTEN)
        == """\
r:
  + igmp-proxy[default]/robustness: 3
  + igmp-proxy[default]/interfaces[lan0]/alternative-subnets: [10.0.0.0/8]
  + igmp-proxy[default]/interfaces[lan0]/query-interval: 3125 (31.25s)
  - igmp-proxy[default]/interfaces[lan1]
      ! interrupts 239.1.1.1 on lan1 (lan1 is removed)
  + igmp-proxy[default]/interfaces[lan7]
      + threshold 3
  - igmp-proxy[default]/mfc[192.0.2.5,239.9.9.9]
      - downstream-interface [lan0, lan1]
      ! interrupts 239.9.9.9 on lan0, 239.9.9.9 on lan1 (the permanent entry is removed)
  impact: interrupts 239.9.9.9 on lan0, 239.1.1.1 on lan1, 239.9.9.9 on lan1 (lan1 is removed; the permanent entry is removed)

Plan: 4 to add, 0 to change, 2 to remove.
"""
    )


def test_a_change_shows_old_and_new_and_what_was_written():
    a = from_plain(DeviceConfig, {"igmp-proxy": [edited(lan0={"query-interval": "2m5s"})]})
    b = from_plain(DeviceConfig, {"igmp-proxy": [edited(lan0={"query-interval": 3125})]})
    assert "  ~ igmp-proxy[default]/interfaces[lan0]/query-interval: 2m5s -> 3125 (31.25s)\n" in text(plan(a, b), written=WRITTEN)
    assert "query-interval: 2m5s -> 31.25s\n" in text(plan(a, b))


def test_a_new_instance_shows_what_is_in_it_line_by_line():
    lines = text(plan(DeviceConfig(), A, DeviceState())).splitlines()
    assert lines[:4] == ["r:", "  + igmp-proxy[default]", "      + interfaces[lan0]", "      + interfaces[lan1]"]
    assert "      + interfaces[wan]: upstream true" in lines
    assert "      + mfc[192.0.2.5,239.9.9.9]: downstream-interface [lan0, lan1]" in lines


def test_many_groups_are_counted_not_listed():
    b = from_plain(DeviceConfig, {"igmp-proxy": [edited(enabled=False)]})
    from ipaddress import ip_address

    from tests.plan.test_impact import row

    state = DeviceState(groups=tuple(row("lan0", str(ip_address("239.1.0.0") + i)) for i in range(100)))
    assert "interrupts 239.1.0.0 on lan0, " in text(plan(A, b, state))
    assert " and 94 more (instance default is switched off)" in text(plan(A, b, state))


def test_nothing_to_do_is_said():
    assert text(plan(A, A)) == "No changes. r is as wanted.\n"
    two = Plan(plan_id="p", devices=(*plan(A, A).devices, *plan().devices))
    assert summary(two) == "Plan: 4 to add, 0 to change, 2 to remove on 1 of 2 devices."
    assert "r: no changes" in text(two)


def fleet(*names: str, interrupted: str = "") -> Plan:
    """The same change on every device; only on one somebody is watching."""
    b = from_plain(DeviceConfig, {"igmp-proxy": [edited(lan1=None, mfc=[])]})
    return Plan(plan_id="p", devices=tuple(planned(name, A, b, STATE if name == interrupted else DeviceState()) for name in names))


def test_the_same_change_on_many_devices_is_said_once_and_who_notices_by_name():
    names = [f"r{i}" for i in range(12)]
    assert text(fleet(*names, interrupted="r7")).splitlines() == [
        "r0, r1, r2, r3, r4, r5, r6, r7 and 4 more (12 devices alike):",
        "  - igmp-proxy[default]/interfaces[lan1]",
        "  - igmp-proxy[default]/mfc[192.0.2.5,239.9.9.9]",
        "      - downstream-interface [lan0, lan1]",
        "  impact on r7: interrupts 239.9.9.9 on lan0, 239.1.1.1 on lan1, 239.9.9.9 on lan1 (lan1 is removed; the permanent entry is removed)",
        "  impact on the other 11: none",
        "",
        "Plan: 0 to add, 0 to change, 24 to remove on 12 of 12 devices.",
    ]
    said = markdown(fleet(*names, interrupted="r7"))
    assert said.count("```diff") == 1
    assert "| interrupts | 1 | 3 |" in said
    assert "| none | 11 | 0 |" in said


def test_devices_that_differ_in_one_change_stand_apart():
    plans = (*fleet("r1", "r2").devices, planned("r3", A, B, DeviceState()), planned("r4", A, A, STATE), planned("r5", A, A, STATE))
    said = text(Plan(plan_id="p", devices=plans))
    assert "r1, r2 (2 devices alike):" in said
    assert "\nr3:\n" in said
    assert said.startswith("r4, r5: no changes\n")


def test_a_comment_is_never_larger_than_it_may_be_and_names_what_hurts_first():
    different = [
        planned(f"r{i}", A, from_plain(DeviceConfig, {"igmp-proxy": [edited(robustness=3 + i, lan1=None, mfc=[])]}), STATE if i == 150 else DeviceState())
        for i in range(200)
    ]
    plan = Plan(plan_id="p", devices=tuple(different))
    full = markdown(plan, most=1_000_000)
    assert full.count("```diff") == 200
    for most in (LEAST, 2_000, 5_000, 20_000):
        said = markdown(plan, most=most)
        assert len(said) <= most
        assert said.count("```") % 2 == 0
        assert said.index("r150") < said.index("r0")
        assert "the JSON document of the plan has everything" in said
    assert said.count("```diff") > 3
    assert " more devices\n" in markdown(plan, most=LEAST)


def test_what_people_wrote_is_no_markup():
    rules = {"firewall": {"rules": [{"chain": "input", "action": "accept", "comment": "````\n# **owned**"}]}}
    said = markdown(Plan(plan_id="p", devices=(planned("r_1|*", DeviceConfig(), from_plain(DeviceConfig, rules), STATE),)))
    assert "#### r\\_1\\|\\*" in said
    assert said.count("`````") == 2


def test_colour_is_the_callers():
    painted = text(plan(), paint=lambda said, colour: f"<{colour}>{said}</{colour}>")
    assert "<green>+ igmp-proxy[default]/robustness: 3</green>" in painted
    assert "<red>! interrupts" in painted


def test_markdown_is_a_diff_block():
    said = markdown(plan(), written=WRITTEN)
    assert said.startswith("### igmpconf plan `p1`\n\n**Plan: 4 to add")
    assert "Impact: **interrupts**" in said
    assert "```diff\n+ igmp-proxy[default]/robustness: 3\n" in said
    assert "+ igmp-proxy[default]/interfaces[lan0]/query-interval: 3125 (31.25s)" in said
    changed = markdown(plan(A, from_plain(DeviceConfig, {"igmp-proxy": [edited(lan0={"threshold": 0})]}), DeviceState()))
    assert changed.count("\n+ ") == 1


def test_junit_counts_devices_and_escapes():
    two = Plan(plan_id="p", devices=(planned("a<b", A, B, STATE), planned("same", A, A, STATE)))
    suite = ET.fromstring(junit(two))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite.iter("testcase")] == ["a<b", "same"]
    (failure,) = suite.iter("failure")
    assert failure.get("type") == "interrupts"
    assert failure.get("message") == "6 changes"
    assert "lan1 is removed" in failure.text

from __future__ import annotations

from xml.etree import ElementTree as ET

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.plan.plan import Plan, planned
from igmpconf.plan.render import junit, markdown, summary, text
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
    assert [case.get("name") for case in suite] == ["a<b", "same"]
    assert "lan1 is removed" in suite[0][0].text

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from igmpconf.errors import InputError
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.plan.plan import Plan, from_json, json_schema, planned, to_json
from tests.kit.desired import configs
from tests.plan.test_impact import BASE, STATE

CONFIG = from_plain(DeviceConfig, {"igmp-proxy": [BASE]})
PLAN = Plan(plan_id="p1", devices=(planned("r1", CONFIG, DeviceConfig(), STATE), planned("r2", DeviceConfig(), CONFIG, DeviceState())))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(configs(), configs())
def test_a_saved_plan_is_read_back_as_it_was(a, b):
    plan = Plan(plan_id="p", devices=(planned("r", a, b, STATE),))
    text = to_json(plan)
    assert from_json(text) == plan
    jsonschema.validate(json.loads(text), json_schema())


def test_a_plan_without_changes_is_empty():
    assert Plan(plan_id="p", devices=(planned("r", CONFIG, CONFIG, STATE),)).is_empty
    assert not PLAN.is_empty


@pytest.mark.parametrize(
    ("old", "new"),
    [('"r1"', '"r9"'), ('"wan"', '"wan2"'), ('"interrupts"', '"none"'), ('"p1"', '"p2"'), ("sha256:", "sha256:0")],
)
def test_an_edited_plan_is_refused(old, new):
    text = to_json(PLAN)
    assert old in text
    with pytest.raises(InputError):
        from_json(text.replace(old, new), name="plan.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"format": 3}', '{"format": "igmpconf-plan/0", "devices": []}'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(InputError, match=r"plan\.json") as caught:
        from_json(text, name="plan.json")
    assert caught.value.hint


def _resealed(change) -> str:
    """A document whose digest is right and whose content is not."""
    from igmpconf.plan.plan import _digest

    document = json.loads(to_json(PLAN))
    document.pop("digest")
    change(document)
    document["digest"] = _digest(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["devices"][0].pop("target"),
        lambda d: d["devices"][0].update(target_digest=d["devices"][0]["base_digest"]),
        lambda d: d["devices"][1]["target"].update(nonsense=1),
        lambda d: d["devices"][0]["changes"][0].update(action="?"),
        lambda d: d["devices"][0]["changes"][0].update(steps=[["nowhere"]]),
        lambda d: d["devices"][0]["changes"][0]["impact"].update(level="terrible"),
        lambda d: d.update(devices=7),
    ],
)
def test_a_damaged_plan_is_refused_even_with_a_right_digest(change):
    with pytest.raises(InputError, match="damaged"):
        from_json(_resealed(change))


def test_the_printed_schema_is_fresh():
    printed = Path(__file__).parents[2] / "schemas" / "plan.schema.json"
    assert printed.read_text() == json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", "run: igmpconf schema plan > schemas/plan.schema.json"

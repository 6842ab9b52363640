"""The committed files that are printed are what the model prints today."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings

from igmpconf.model.canon import to_plain
from igmpconf.schema.jsonschema import json_schema
from igmpconf.schema.printed import printed, write
from tests.kit.desired import configs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(printed()))
def test_the_committed_file_is_fresh(name):
    assert (ROOT / name).read_text(encoding="utf-8") == printed()[name], f"{name} is stale: run python -m igmpconf.schema.printed"


def test_files_are_written(tmp_path):
    assert [(path.relative_to(tmp_path).as_posix(), path.read_text(encoding="utf-8")) for path in write(tmp_path)] == list(printed().items())


VALIDATOR = jsonschema.Draft202012Validator(json.loads(printed()["schemas/igmpconf.schema.json"]))


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(json_schema())


@given(configs())
@settings(max_examples=40)
def test_every_model_fits_it(config):
    assert list(VALIDATOR.iter_errors(to_plain(config))) == []


@pytest.mark.parametrize(
    "document",
    [
        {"igmp-proxy": {"query-interval": 3125, "interfaces": ["wan", {"interface": "lan0"}], "groups": {"action": "deny"}}},
        {"igmp-proxy": [{"quick-leave": True, "family": "ipv6", "enabled": "no"}]},
        {"igmp-proxy": [{"interfaces": [{"interface": 100, "static-groups": ["239.1.1.1"]}]}]},
        {"firewall": None},
        {},
    ],
)
def test_what_people_may_write(document):
    assert list(VALIDATOR.iter_errors(document)) == []


@pytest.mark.parametrize(
    "document",
    [
        {"igmp-prox": []},
        {"igmp-proxy": {"robustness": 256}},
        {"igmp-proxy": {"robustness": True}},
        {"igmp-proxy": {"query-interval": "5"[:0]}},
        {"igmp-proxy": {"query-interval": "5x"}},
        {"igmp-proxy": {"query-interval": 99}},  # centiseconds: below 1 s
        {"igmp-proxy": {"query-interval": 31.25}},
        {"igmp-proxy": {"interfaces": [{"interface": ".."}]}},
        {"igmp-proxy": {"interfaces": [{"interface": "a b"}]}},
        {"igmp-proxy": {"interfaces": [{"upstream": True}]}},
        {"igmp-proxy": {"interfaces": [f"i{i}" for i in range(33)]}},
        {"igmp-proxy": {"mode": "bridge"}},
        {"vlans": [{"name": "a", "interface": "b", "vlan-id": 0}]},
    ],
)
def test_what_they_may_not(document):
    assert list(VALIDATOR.iter_errors(document)) != []

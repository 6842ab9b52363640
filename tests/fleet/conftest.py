from __future__ import annotations

import pytest

from tests.cli.conftest import igmpconf, place
from tests.fleet.agents import NAMES, Fleet

__all__ = ["igmpconf", "place"]


@pytest.fixture
def fleet(request, tmp_path, place):
    """Agents of NAMES, or of what the test's module calls so, and an inventory of them that wants home.yaml."""
    (tmp_path / "agents").mkdir()
    with Fleet(tmp_path / "agents", getattr(request.module, "NAMES", NAMES)) as made:
        made.inventory(place / "hosts.yaml", igmpconf_config="home.yaml")
        yield made

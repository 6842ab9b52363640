"""One site for all tests of a file: what costs is the cables; a proxy is up in 50 ms."""

from __future__ import annotations

import pytest

from tests.kit.doctor import Practice
from tests.kit.netns import Net
from tests.kit.site import Site


@pytest.fixture(scope="module")
def shared_site():
    with Net() as net:
        yield Site(net)


@pytest.fixture
def practice(site, tmp_path):
    """An agent on the router, to be started by the test, and a doctor for it."""
    made = Practice(site, tmp_path)
    yield made
    made.stop()


@pytest.fixture
def site(shared_site):
    """head --- wan [router] lan0 --- h0, lan1 --- h1; nothing runs."""
    yield shared_site
    shared_site.tidy()

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


@pytest.fixture(scope="module")
def shared_practice(shared_site, tmp_path_factory):
    made = Practice(shared_site, tmp_path_factory.mktemp("doctor"))
    yield made
    made.stop()


@pytest.fixture
def practice(site, shared_practice):
    """An agent on the router, which runs what the test has it run, and a doctor for it."""
    yield shared_practice
    if shared_practice.agent is not None:
        shared_practice.rest()


@pytest.fixture
def site(shared_site):
    """head --- wan [router] lan0 --- h0, lan1 --- h1; nothing runs."""
    yield shared_site
    shared_site.tidy()

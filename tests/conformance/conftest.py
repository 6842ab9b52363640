"""Every reply of the NETCONF server is held against the YANG modules that it says it has."""

from __future__ import annotations

import pytest

from tests.kit import yang
from tests.kit.netconf import Client


@pytest.fixture(autouse=True)
def _replies_fit_the_modules(request: pytest.FixtureRequest):
    if not request.path.name.startswith("test_netconf_"):
        yield
        return

    def check(client: Client, operation: str, reply: bytes) -> None:
        yang.check_answer(operation, reply, sees_all=client.sees_all)

    Client.answered.append(check)
    yield
    Client.answered.remove(check)

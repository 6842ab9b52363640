"""What `show` says of a running proxy, on a terminal of 80 columns and as JSON that fits its schema.

head --- wan [router] lan0 --- h0
                      lan1 --- h1
"""

from __future__ import annotations

import json

import jsonschema
import pytest

from igmpconf.apply.rows import VIEWS, json_schema
from tests.kit.conformance import covers
from tests.kit.netns import wait_until
from tests.kit.site import flows
from tests.kit.wire import Stranger
from tests.manual.conftest import instance_with

pytestmark = pytest.mark.kernel
G, STATIC, HEAD = "239.1.1.1", "239.255.1.1", "10.1.0.2"


@pytest.fixture
def viewed(site, desk, monkeypatch):
    """h0 and h1 watch G, a static entry waits for its stream; a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    desk.applies(
        instance_with(
            family=["ipv4", "ipv6"],
            mfc=[{"source": "192.168.100.5", "group": STATIC, "downstream-interface": ["lan0", "lan1"]}],
        )
    )
    source = site.source(HEAD)
    for host in (site.h0, site.h1):
        site.member(host, G).join()
        flows(source, G, site.tap(host))
    return desk


def show(desk, *arguments: str):
    said = desk("show", *arguments, "-d", desk.device)
    assert max(len(line) for line in said.out.splitlines()) <= 80, said.out
    return said


@covers("R027", "R033", "R047", "R109", aspects=("live",))
def test_forwarding_entries_with_all_that_is_known_of_them(site, viewed):
    blocks = show(viewed, "mfc", "--detail").out.replace("\n   ", " ").splitlines()
    learned = next(line for line in blocks if f"group={G} " in line)
    static = next(line for line in blocks if f"group={STATIC} " in line)
    assert "downstreams=lan0,lan1" in learned
    assert "upstream=wan" in learned
    assert "kind=learned state=forwarding" in learned
    assert "source=192.168.100.5" in static
    assert "packets=0 bytes=0 wrong-if=0 kind=static state=waiting-for-data" in static
    (row,) = viewed.mfc(G)
    payload = 28 + len(b"frame")  # with IP and UDP headers
    for _ in range(10):
        site.source(HEAD).send(G, b"frame")
    wait_until(lambda: viewed.mfc(G)[0]["packets"] == row["packets"] + 10, "each datagram is counted once")
    assert viewed.mfc(G)[0]["bytes"] == row["bytes"] + 10 * payload
    tall = show(viewed, "mfc").out
    assert {"SOURCE", "GROUP", "DOWNSTREAMS", "PACKETS", "KIND", "STATE"} <= set(tall.splitlines()[0].split())


@covers("R109", "R012", aspects=("live",))
def test_a_stream_that_comes_in_where_it_should_not_is_counted_and_not_forwarded(site, viewed):
    """A static entry says where its stream arrives."""
    wrong = Stranger(site.net, site.h1, "eth0")
    tap = site.tap(site.h0)
    for _ in range(5):
        wrong.send("192.168.100.5", STATIC, b"\x13\x88\x13\x88\x00\x0d\x00\x00wrong", ttl=16, protocol=17)
    wait_until(lambda: viewed.mfc(STATIC)[0]["wrong_if"] == 5, f"{viewed.mfc(STATIC)}")
    assert not list(tap.arrivals(STATIC))
    (row,) = viewed.mfc(STATIC)
    assert (row["packets"], row["state"]) == (0, "waiting-for-data")
    assert "wrong-if=5" in show(viewed, "mfc", "--detail").out


@covers("R046", "R110", "R077", "R079", aspects=("live",))
def test_interfaces_with_role_state_querier_and_counters(site, viewed):
    said = show(viewed, "interfaces")
    heading = said.out.splitlines()[0].split()
    assert {"INTERFACE", "ROLE", "UP", "ADDRESSES", "QUERIER"} <= set(heading)
    assert "--detail shows all" in said.err
    rows = {row["interface"]: row for row in viewed.rows("interfaces") if row["family"] == "ipv4"}
    assert {name: row["role"] for name, row in rows.items()} == {"lan0": "downstream", "lan1": "downstream", "wan": "upstream"}
    assert rows["lan0"]["addresses"] == ["10.2.0.1/24"]
    assert rows["lan0"]["querier"]["self"]
    counted = {name: row["counters"] for name, row in rows.items()}
    before = counted["wan"]["stream-packets-in"], counted["lan0"]["stream-packets-out"]
    for _ in range(10):
        site.source(HEAD).send(G, b"frame")
    wait_until(lambda: viewed.interface("wan")["counters"]["stream-packets-in"] == before[0] + 10, "in by the upstream")
    after = viewed.interface("lan0")["counters"]
    assert after["stream-packets-out"] == before[1] + 10
    assert after["stream-bytes-out"] - counted["lan0"]["stream-bytes-out"] == 10 * (28 + len(b"frame"))
    detail = show(viewed, "interfaces", "--detail").out
    assert "sent-query-v3=" in detail
    assert "stream-bytes-out=" in detail
    site.router.run("ip link set lan1 down")
    try:
        wait_until(lambda: not viewed.interface("lan1")["up"], "it is seen down")
    finally:
        site.router.run("ip link set lan1 up")


@covers("R033", "R046", "R110", aspects=("live",))
@pytest.mark.parametrize("what", list(VIEWS))
def test_every_table_fits_and_its_json_has_a_schema(site, viewed, what):
    wait_until(lambda: viewed.rows(what) or what == "sources", "rows")
    show(viewed, what)
    show(viewed, what, "--detail")
    document = json.loads(viewed("show", what, "--format", "json", "-d", viewed.device).out)
    jsonschema.validate(document, json_schema())

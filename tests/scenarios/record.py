"""Makes the scenarios of this directory anew, on the real kernel: python -m tests.scenarios.record [NAME ...]

Each is what `igmpconf-agent run --record` wrote while kernel hosts joined, left and died in namespaces; engines of
today are then held to it by test_scenarios.py.  Look at the difference before committing another recording.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from igmpconf.engine.messages import Query
from igmpconf.engine.wire.igmp import encode_query
from tests.kit.agent import seeded
from tests.kit.netns import Namespace, Net, sysctl, wait_until

HERE = Path(__file__).parent
G, G2, PORT = "239.1.1.1", "239.2.2.2", 5000
_SHORT_QUERY = encode_query(Query(b"", 3, None, (), 1_000, 2, 2_000))[0]  # heard for 2 * 2 s + 0.5 s


class Site:
    """head --- wan [router] lan0 --- h1, h2 on one bridge; lan1 --- h3."""

    def __init__(self, net: Net, directory: Path, config: dict) -> None:
        self.net = net
        self.head, self.router, self.h1, self.h2, self.h3 = (net.namespace(name) for name in ("head", "router", "h1", "h2", "h3"))
        net.veth(self.router, "wan", self.head, "eth0", "10.1.0.1/24", "10.1.0.2/24")
        self.router.run("ip link add lan0 type bridge mcast_snooping 0 forward_delay 0")
        self.router.run("ip addr add 10.2.0.10/24 dev lan0")
        self.router.run("ip link set lan0 up")
        for host, number in ((self.h1, 11), (self.h2, 12)):
            net.veth(self.router, f"lan0-{host.name}", host, "eth0", "", f"10.2.0.{number}/24")
            self.router.run(f"ip link set lan0-{host.name} master lan0")
        net.veth(self.router, "lan1", self.h3, "eth0", "10.3.0.1/24", "10.3.0.13/24")
        for host in (self.h1, self.h2, self.h3):
            sysctl(host, "ipv4/conf/eth0/force_igmp_version", 3)
        self.directory = directory
        self.recording = directory / "steps.jsonl"
        seeded(directory / "state", config)
        command = [sys.executable, "-m", "igmpconf.agent.main", "run", "--state-dir", str(directory / "state"), "--socket", str(directory / "agent.sock")]
        with (directory / "log").open("wb") as log:
            self.agent = self.router.popen([*command, "--record", str(self.recording)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.engine_pid() or self.agent.poll() is not None, "the engine's pid")
        assert self.agent.poll() is None, (directory / "log").read_text()

    def engine_pid(self) -> int | None:
        try:
            pid = int((self.directory / "state" / "engine.pid").read_text())
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return None
        return pid

    def recorded(self, what: str, times: int = 1) -> None:
        wait_until(lambda: self.recording.read_text().count(what) >= times, f"{what} in the recording", timeout_s=30)

    def host(self, inside: Namespace, group: str = G):
        return self.net.host(inside, "eth0", group, PORT)

    def stop(self) -> None:
        self.agent.terminate()
        assert self.agent.wait(15) == 0


def join_and_leave(site: Site) -> None:
    """One subscriber, from the first report to the leave that nobody contradicts."""
    tv = site.host(site.h1)
    site.recorded('"membership/joined"')
    site.recorded('"SetRoute":{"source":null,"group":"239.1.1.1"')
    tv.leave()
    site.recorded('"membership/left"')
    site.recorded('"ClearRoute":{"source":null,"group":"239.1.1.1"}')


def two_televisions(site: Site) -> None:
    """Both on one channel behind lan0; one leaves and the other loses nothing, then the last one leaves at once."""
    first, second = site.host(site.h1), site.host(site.h2)
    elsewhere = site.host(site.h3, G2)
    site.recorded('"sender":"10.2.0.11","destination":"224.0.0.22"')
    site.recorded('"sender":"10.2.0.12","destination":"224.0.0.22"')
    site.recorded('"sender":"10.3.0.13","destination":"224.0.0.22"')
    # hosts are known once the first general query has been answered (its response interval here: 2 s)
    site.recorded('"sender":"10.2.0.12"', 4)
    wait_until(
        lambda: any(line for line in site.recording.read_text().splitlines() if '"TimePassed"' in line and _at_ms(line) > 2_500), "the response interval", 30
    )
    first.leave()
    site.recorded('"sender":"10.2.0.11"', 6)
    second.leave()
    site.recorded('"membership/left","fields":{"interface":"lan0","group":"239.1.1.1"')
    elsewhere.leave()
    site.recorded('"membership/left","fields":{"interface":"lan1"')


def _at_ms(line: str) -> int:
    return int(line.partition('"at_ms":')[2].partition(",")[0])


def kill_and_adoption(site: Site) -> None:
    """The engine is killed under two memberships; the next one adopts them, and one host is gone when it asks."""
    site.host(site.h1)
    site.host(site.h3, G2)
    site.recorded('"SetRoute":{"source":null,"group":"239.1.1.1"')
    site.recorded('"SetRoute":{"source":null,"group":"239.2.2.2"')
    before = site.engine_pid()
    assert before is not None
    os.kill(site.agent.pid, signal.SIGSTOP)  # the keeper waits until the host is gone too
    os.kill(before, signal.SIGKILL)
    site.h3.run("nft add table inet deaf")
    site.h3.run("nft add chain inet deaf out { type filter hook output priority 0; policy drop; }")
    os.kill(site.agent.pid, signal.SIGCONT)
    site.recorded('"routes/adopted"')
    site.recorded('"ClearRoute":{"source":null,"group":"239.2.2.2"}')


def querier_election(site: Site) -> None:
    """Another router with a lower address asks on lan0 and falls silent again."""
    site.host(site.h1)
    site.recorded('"SetRoute":{"source":null,"group":"239.1.1.1"')
    site.h2.run("ip addr add 10.2.0.1/24 dev eth0")
    other = site.net.socket(site.h2, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    other.bind(("10.2.0.1", 0))
    other.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    other.setsockopt(socket.IPPROTO_IP, 4, b"\x94\x04\x00\x00")  # IP_OPTIONS: Router Alert
    other.sendto(_SHORT_QUERY, ("224.0.0.1", 0))
    site.recorded('"querier/lost"')
    site.recorded('"querier/taken"')


SCENARIOS: dict[str, tuple[Callable[[Site], None], dict]] = {
    "join-and-leave": (join_and_leave, {"quick-leave": "off", "last-member-interval": "500ms", "query-response-interval": "2s", "query-interval": "30s"}),
    "two-televisions": (two_televisions, {"query-response-interval": "2s", "query-interval": "20s"}),
    "kill-and-adoption": (kill_and_adoption, {"last-member-interval": "500ms", "query-response-interval": "2s", "query-interval": "30s"}),
    "querier-election": (querier_election, {"query-response-interval": "1s", "query-interval": "10s"}),
}


def a_config(settings: dict) -> dict:
    return {"igmp-proxy": [{"name": "default", **settings, "interfaces": [{"interface": "wan", "upstream": True}, "lan0", "lan1"]}]}


def record(name: str) -> None:
    play, settings = SCENARIOS[name]
    config = a_config(settings)
    with tempfile.TemporaryDirectory() as made, Net() as net:
        site = Site(net, Path(made), config)
        try:
            play(site)
        except BaseException:
            sys.stderr.write((Path(made) / "log").read_text() + site.recording.read_text())
            raise
        site.stop()
        target = HERE / name
        target.mkdir(exist_ok=True)
        shutil.copyfile(site.recording, target / "steps.jsonl")
        (target / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or SCENARIOS:
        record(chosen)

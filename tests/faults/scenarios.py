"""What a device does when the fault comes: each step of commit, confirm, cancel, timeout, rollback and upgrade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from igmpconf.ids import PersistId
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from tests.faults.world import OURS, Device

TOKEN = PersistId("token")
TIMEOUT_S = 200


def _config(upstream: str, *downstreams: object, vlans: tuple[object, ...] = (), mfc: tuple[object, ...] = ()) -> DeviceConfig:
    proxy = {"name": "default", "interfaces": [{"interface": upstream, "upstream": True}, *downstreams], "mfc": list(mfc)}
    return from_plain(DeviceConfig, {"igmp-proxy": [proxy], "vlans": list(vlans)})


NOTHING = DeviceConfig()
A = _config("wan", "lan0", "lan1")
B = _config(
    "tv",
    {"interface": "lan0", "threshold": 3},
    "lan2",
    vlans=({"name": "tv", "interface": "ether1", "vlan-id": 7},),
    mfc=({"source": "10.7.0.5", "group": "239.9.9.9", "downstream-interface": "lan2"},),
)
C = _config("wan", {"interface": "lan0", "query-interval": "60s"}, "lan1", mfc=({"source": "10.2.0.5", "group": "239.8.8.8", "downstream-interface": "lan1"},))


@dataclass(frozen=True)
class Scenario:
    """`prepare` leads to the moment before, `act` is what the fault strikes; a good end leads to `new`, a bad one to `old`."""

    name: str
    prepare: Callable[[Device], None]
    act: Callable[[Device], str | None]  # the reply; None: nobody waits for one
    old: DeviceConfig
    new: DeviceConfig
    before: DeviceConfig | None = None  # what runs, and waits, when the fault comes; None: `old`
    waits: bool = False  # a confirmed commit waits before, or after a failure
    is_undo: bool = False  # what is refused is tried again, so that a living device comes to `new` whatever happens


def _started(device: Device, config: DeviceConfig = A) -> None:
    device.start()
    _good(device.commit(config))
    device.hosts_report()
    device.pass_time(1)


def _waiting(device: Device, *, persist: bool = True) -> None:
    _started(device)
    device.persist = TOKEN if persist else None
    _good(device.commit(B, is_confirmed=True, confirm_timeout_s=TIMEOUT_S, persist=device.persist))
    device.hosts_report()
    device.pass_time(1)


def _good(answer: str) -> None:
    assert answer == "ok", answer


def _timeout(device: Device) -> None:
    device.pass_time(TIMEOUT_S + 0.5)


def _session_ends(device: Device) -> None:
    device.store.session_ended(OURS)
    device.pass_time(0.1)


def _two_commits(device: Device) -> None:
    _started(device)
    _good(device.commit(B))


def _roll_back(device: Device) -> str:
    """What `igmpconf rollback 1` asks: the configuration of an earlier commit, committed anew."""
    former = device.store.machine.history[-2].config
    assert former == A
    return device.commit(former, plan="rollback")


def _killed_while_waiting(device: Device) -> None:
    _waiting(device)
    device.lose_worker()


def _exchange(device: Device) -> None:
    """The worker hands over, the next one adopts."""
    assert device.life is not None
    device.life.hand_over()
    device.lose_worker()
    device.start()


SCENARIOS = (
    Scenario("first start", lambda _: None, lambda device: device.start(), NOTHING, NOTHING),
    Scenario("commit", _started, lambda device: device.commit(B, plan="p"), A, B),
    Scenario("confirmed commit", _started, lambda device: device.commit(B, is_confirmed=True, confirm_timeout_s=TIMEOUT_S, persist=TOKEN), A, B, waits=True),
    Scenario("follow-up", _waiting, lambda device: device.commit(C, is_confirmed=True, confirm_timeout_s=TIMEOUT_S, persist_id=TOKEN), A, C, B, waits=True),
    Scenario("confirm", _waiting, lambda device: device.commit(persist_id=TOKEN), A, B, waits=True),
    Scenario("confirm with a change", _waiting, lambda device: device.commit(C, persist_id=TOKEN), A, C, B, waits=True),
    Scenario("cancel", _waiting, lambda device: device.cancel(), B, A, waits=True, is_undo=True),
    Scenario("timeout", _waiting, _timeout, B, A, waits=True, is_undo=True),
    Scenario("lost session", lambda device: _waiting(device, persist=False), _session_ends, B, A, waits=True, is_undo=True),
    Scenario("rollback", _two_commits, _roll_back, B, A),
    Scenario("restart while a change waits", _killed_while_waiting, lambda device: device.start(), A, A, is_undo=True),
    Scenario("upgrade", _started, _exchange, A, A),
)

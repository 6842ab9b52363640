"""Everything beside the engines that a configuration asks for: VLAN interfaces, system settings, rules of firewall and bridges.

    prepare(config)   before the engines: made and changed; refused as a whole, and then all is as before
    settle()          after the engines: what nobody wants any more is removed (a leave still has to go out by it)
    revert()          instead of settle, when the engines refused

What is ours and what it was before is on the disk before it is changed (owned.py).  A configuration that goes, an
instance that is disabled and an interface that is no upstream any more give everything back; stopping the agent gives
nothing back, because a restart must not interrupt a stream and others put addresses on our VLANs.

In between somebody else may change it: a firewall is loaded anew, an interface comes late, a setting is turned.  The
kernel announces the first two; the rest is looked at every 10 s, and so are the rules that lead to the multicast tables
of further instances.  What deviates is told (`deviations`) and put right.
The first configuration after the start of the process is put in force as far as possible: a missing program or
interface must not keep the streams from starting, it is told and tried again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from igmpconf.agent.files import DISK, Files
from igmpconf.agent.owned import Belongings, OwnedFile, Setting
from igmpconf.engine.effects import Note
from igmpconf.errors import KernelError
from igmpconf.linux import bridge_filter, bridge_settings, sysctl, vlan
from igmpconf.linux.bridge_filter import PortFilter
from igmpconf.linux.bridge_settings import NetworkSettings
from igmpconf.linux.guard import guards, is_guarded
from igmpconf.linux.kernel import MulticastTable
from igmpconf.linux.nft import Nftables, Rule, wanted_rules
from igmpconf.linux.refusal import refused
from igmpconf.linux.sysctl import RP_FILTER_ALL, Settings, rp_filter, wanted_settings
from igmpconf.linux.vlan import Link, LinkTable, VlanLinks, steps
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Prefix
from igmpconf.model.state import DeviationRow

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_LOOK_EVERY_S = 10.0
_LOOK_SOON_S = 0.02  # a burst of announcements is one reason to look
_NFNLGRP_NFTABLES = 7  # linux/netfilter/nfnetlink.h
_NETLINK_NETFILTER = 12


class Surroundings:
    """Implements what the docstring above draws; `log` takes notes, always on `loop`.

    `subnets` tells those of every interface there is, by its name, and `tables` the multicast routing tables; whoever
    follows the interfaces sets both.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        log: Callable[[Note], None],
        state_dir: Path | None = None,
        firewall: Nftables | None = None,
        links: LinkTable | None = None,
        settings: Settings | None = None,
        port_filter: PortFilter | None = None,
        subnets: Callable[[], Mapping[str, Sequence[Prefix]]] = dict,
        look_every_s: float = _LOOK_EVERY_S,
        files: Files = DISK,
    ) -> None:
        self._loop = loop
        self._log = log
        self._state_dir = state_dir
        self._firewall = firewall or Nftables()
        self._links: LinkTable = links or VlanLinks()
        self._settings: Settings = settings or NetworkSettings()
        self._port_filter = port_filter or PortFilter()
        self.subnets = subnets
        self.tables: Callable[[], Sequence[MulticastTable]] = tuple
        self._look_every_s = look_every_s
        self._files = files
        self._owned: OwnedFile | None = None
        self._config = DeviceConfig()  # in force
        self._next: DeviceConfig | None = None  # between prepare and settle or revert
        self._is_started = False
        self._seen: dict[tuple[str, str], float] = {}  # deviations, since when
        self._said: set[str] = set()  # refusals that were told
        self._watch: socket.socket | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None

    # a configuration

    def prepare(self, config: DeviceConfig) -> None:
        """Make what `config` needs.  Raises KernelError, and then everything is as before."""
        try:
            self._make(config)
        except KernelError as error:
            if self._is_started:
                self._put_back()
                raise
            self._tell(error)
        self._next = config

    def settle(self) -> None:
        """The engines are in force: remove what nobody wants any more."""
        assert self._next is not None
        self._config, self._next, self._is_started = self._next, None, True
        try:
            self._remove(self._config)
        except KernelError as error:
            self._tell(error)
        self._watch_on()

    def revert(self) -> None:
        """The engines refused."""
        self._next = None
        if self._is_started:
            self._put_back()

    def _put_back(self) -> None:
        try:
            self._make(self._config)
            self._remove(self._config)
        except KernelError as error:  # it was so a moment ago; the next look tries again
            self._tell(error)

    def _make(self, config: DeviceConfig) -> None:
        links = self._listed()
        todo = steps(config.vlans, links, self._belongings.vlans)
        kept_till_later = {name: one for name, one in self._belongings.vlans.items() if name not in todo.owned}
        if not todo.refusals:
            self._own(vlans=kept_till_later | todo.owned)
        later = tuple(link for link in todo.remove if link.name in kept_till_later and not _stands_in_the_way(link, config))
        vlan.perform(self._links, dataclasses.replace(todo, remove=tuple(link for link in todo.remove if link not in later)))
        links = self._listed() if todo.create or todo.remove else links
        bridge_settings.check(config, links, self._settings)
        self._set(config, links)
        port_rules = bridge_filter.wanted_rules(config, links)
        if port_rules:
            self._own(has_port_rules=True)
            self._port_filter.place(port_rules)
        rules = self._rules(config)
        if rules:
            self._own(has_rules=True)
            former = self._rules(self._config)
            if not (self._is_started and set(rules) < set(former)):  # less than before is for `settle`
                self._firewall.make(rules)

    def _remove(self, config: DeviceConfig) -> None:
        links = self._listed()
        before = self._belongings.vlans
        todo = steps(config.vlans, links, before)
        if not todo.refusals:
            vlan.perform(self._links, dataclasses.replace(todo, create=(), set_up=()))
            for link in vlan.released(links, before, config.vlans):
                vlan.let_down(self._links, link)
            self._own(vlans=todo.owned)
        self._restore(config, links)
        if self._belongings.has_port_rules:
            port_rules = bridge_filter.wanted_rules(config, links)
            self._port_filter.place(port_rules)
            self._own(has_port_rules=bool(port_rules))
        rules = self._rules(config)
        if self._belongings.has_rules:
            self._firewall.make(rules)
            self._own(has_rules=bool(rules))

    def _rules(self, config: DeviceConfig) -> tuple[Rule, ...]:
        """The guards first: the order tells nothing between tables, and they are the same whatever the firewall says."""
        guarding = tuple(guard.rule for guard in guards(config, self.subnets())) if is_guarded(config) else ()
        return guarding + (wanted_rules(config, self._listed()) if config.firewall is not None else ())

    def _listed(self) -> Mapping[str, Link]:
        try:
            return self._links.links()
        except OSError as error:
            raise KernelError("read the interfaces", error.errno or errno.EIO, f"cannot read the interfaces: {error.strerror}") from None

    # settings

    def _set(self, config: DeviceConfig, links: Mapping[str, Link]) -> None:
        wanted = self._wanted_settings(config, links)
        owned = dict(self._belongings.settings)
        todo = {}
        for name, value in wanted.items():
            found = self._settings.read(name)
            if found is None:
                continue
            ifindex = links[_interface_of(name, links) or ""].ifindex
            known = owned.get(name)
            if known is not None and known.ifindex == ifindex:
                owned[name] = dataclasses.replace(known, given=value)
            elif found != value:
                owned[name] = Setting(was=found, given=value, ifindex=ifindex)
            if found != value:
                todo[name] = value
        self._own(settings=owned)
        for name, value in todo.items():
            try:
                self._settings.write(name, value)
            except KernelError as error:
                if error.errno not in _READ_ONLY:
                    raise
                self._tell(error)  # as in most containers: many streams do without, so it is told and shown, not refused
                continue
            self._log(Note("info", "setting/changed", {"setting": name, "value": value, "was": owned[name].was}))

    def _wanted_settings(self, config: DeviceConfig, links: Mapping[str, Link]) -> dict[str, int]:
        of_all = self._settings.read(RP_FILTER_ALL) or 0
        if of_all and wanted_settings(config, links, 0):
            text = f"{RP_FILTER_ALL} is {of_all}: streams whose source has no route at all are dropped; it speaks for every interface, so it stays as it is"
            if text not in self._said:
                self._said.add(text)
                self._log(Note("warning", "setting/all-is-stricter", {"cause": text, "next": f"set {RP_FILTER_ALL} to 0 if such sources exist"}))
        return self._all_wanted(config, links, of_all)

    @staticmethod
    def _all_wanted(config: DeviceConfig, links: Mapping[str, Link], of_all: int) -> dict[str, int]:
        return wanted_settings(config, links, of_all) | bridge_settings.wanted_settings(config, links)

    def _restore(self, config: DeviceConfig, links: Mapping[str, Link]) -> None:
        """What was changed by us, still is as we left it and is not needed any more gets its old value."""
        wanted = self._wanted_settings(config, links)
        gone = {name: one for name, one in self._belongings.settings.items() if name not in wanted}
        for name, one in gone.items():
            link = links.get(_interface_of(name, links) or "")
            if link is not None and link.ifindex == one.ifindex and self._settings.read(name) == one.given:
                self._settings.write(name, one.was)
                self._log(Note("info", "setting/restored", {"setting": name, "value": one.was}))
        self._own(settings={name: one for name, one in self._belongings.settings.items() if name not in gone})

    # what is ours

    @property
    def _belongings(self) -> Belongings:
        if self._owned is None:  # not before the journal holds the lock of the state directory
            self._owned = OwnedFile(self._state_dir, self._files)
            if self._owned.finding is not None:
                self._log(Note("warning", "owned/unreadable", {"cause": self._owned.finding}))
        return self._owned.now

    def _own(self, **parts: object) -> None:
        changed = dataclasses.replace(self._belongings, **parts)  # type: ignore[arg-type]
        assert self._owned is not None
        try:
            self._owned.write(changed)
        except OSError as error:
            raise KernelError(
                "remember what is changed",
                error.errno or errno.EIO,
                f"cannot write into the state directory what is about to be changed: {error.strerror}",
                hint="nothing is changed that could not be put back; make room there",
            ) from None

    # what happens meanwhile

    def deviations(self) -> tuple[DeviationRow, ...]:
        """What is not as configured now, and since when it was seen so."""
        try:
            links = self._listed()
            rows = vlan.deviations(self._config.vlans, links)
            rows += sysctl.deviations(self._all_wanted(self._config, links, self._settings.read(RP_FILTER_ALL) or 0), self._settings)
            rows += self._lost_steering()
            rules = self._rules(self._config)
        except KernelError as error:
            self._tell(error)
            return ()
        if rules or self._belongings.has_rules:
            try:
                rows += self._firewall.deviations(rules)
            except KernelError as error:
                rows.append(DeviationRow(kind="firewall", name="nftables", expected=f"{len(rules)} rules", found=error.message[:255]))
        port_rules = bridge_filter.wanted_rules(self._config, links)
        if port_rules or self._belongings.has_port_rules:
            try:
                rows += self._port_filter.deviating(port_rules)
            except KernelError as error:
                rows.append(DeviationRow(kind="firewall", name="nftables bridge", expected=f"{len(port_rules)} rules", found=error.message[:255]))
        now = time.monotonic()
        unique = {(row.kind, row.name): row for row in rows}
        self._seen = {key: self._seen.get(key, now) for key in unique}
        return tuple(dataclasses.replace(unique[key], since_s=int(now - since)) for key, since in sorted(self._seen.items()))

    def dropped(self) -> dict[tuple[str, str, str], dict[str, int]]:
        """What the guards dropped, by counter, of each (instance, interface, family) that has guards."""
        if not is_guarded(self._config):
            return {}
        try:
            counts = self._firewall.counts()
        except KernelError as error:
            self._tell(error)
            return {}
        found: dict[tuple[str, str, str], dict[str, int]] = {}
        for guard in guards(self._config, self.subnets()):
            of_interface = found.setdefault((guard.instance, guard.interface, guard.family), {})
            of_interface[guard.counter] = of_interface.get(guard.counter, 0) + counts.get(guard.rule.comment, 0)
        return found

    def look_soon(self) -> None:
        """Something was announced: look once the burst is over."""
        if self._soon is None and self._is_started:
            self._soon = self._loop.call_later(_LOOK_SOON_S, self._look)

    def _look(self) -> None:
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = None
        if self._next is None:
            self._mend()
        self._watch_on()

    def _mend(self) -> None:
        """Make the configuration so, again; what is not to be had is told once and tried at the next look."""
        wrong = self.deviations()
        if not wrong:
            self._said = {text for text in self._said if text.startswith(RP_FILTER_ALL)}
            return
        try:
            self._make(self._config)
            self._remove(self._config)
            self._steer_again()
        except KernelError as error:
            self._tell(error)
            return
        still = {(row.kind, row.name) for row in self.deviations()}  # waited for, or not to be had
        for row in wrong:
            if (row.kind, row.name) not in still:
                self._log(Note("warning", "surroundings/put-right", {"kind": row.kind, "name": row.name, "expected": row.expected, "found": row.found}))

    def _lost_steering(self) -> list[DeviationRow]:
        """Rules of `ip mrule` that lead what arrives to the table of an instance, and are gone."""
        rows: list[DeviationRow] = []
        for table in self.tables():
            try:
                lost = table.lost_rules()
            except OSError as error:
                raise refused("read the multicast rules", error, table.family, table.table) from error
            name = f"{table.family.name} multicast rule iif"
            rows += [DeviationRow(kind="setting", name=f"{name} {one}", expected=f"table {table.table}", found="absent") for one in lost]
        return rows

    def _steer_again(self) -> None:
        for table in self.tables():
            try:
                table.steer_again()
            except OSError as error:
                raise refused("lead what arrives to its table", error, table.family, table.table) from error

    def _tell(self, error: KernelError) -> None:
        if error.message not in self._said:
            self._said.add(error.message)
            self._log(Note("error", "surroundings/refused", {"cause": error.message, "next": error.hint or "it is tried again"}))

    def _watch_on(self) -> None:
        is_needed = bool(self._config.vlans or self._config.firewall or self._config.proxies)
        if is_needed and self._timer is None:
            self._timer = self._loop.call_later(self._look_every_s, self._look)
        has_rules = self._config.firewall is not None or is_guarded(self._config) or self._belongings.has_port_rules
        if has_rules and self._watch is None:
            try:
                watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
                watch.bind((0, 1 << _NFNLGRP_NFTABLES - 1))
            except OSError:
                return  # the timer still looks
            self._watch = watch
            self._loop.add_reader(watch.fileno(), self._announced)
        elif not has_rules:
            self._watch_off()

    def _announced(self) -> None:
        assert self._watch is not None
        while True:
            try:
                self._watch.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                break  # announcements were lost (ENOBUFS): one look sees all of it
        self.look_soon()

    def _watch_off(self) -> None:
        if self._watch is not None:
            self._loop.remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def close(self) -> None:
        """Stop looking; everything stays as it is."""
        self._watch_off()
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = None
        if isinstance(self._links, VlanLinks):
            self._links.close()


def _interface_of(setting: str, links: Mapping[str, Link]) -> str | None:
    return bridge_settings.interface_of(setting) or next((name for name in links if rp_filter(name) == setting), None)


def _stands_in_the_way(link: Link, config: DeviceConfig) -> bool:
    """A VLAN that goes has the name, or the parent and id, of one that comes."""
    return any(link.name == one.name or vlan.same(link, one.interface, one.vlan_id) for one in config.vlans)

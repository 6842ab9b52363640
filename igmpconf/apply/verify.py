"""Is the device what the plan promised?  Multicast facts, compared before and after; pure, polled by the executor.

A fact that fails undoes the change, so only what the change can be blamed for may fail: what was already absent or
down before is a warning, and so is a single group that ended meanwhile, because people change channels all the time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from igmpconf.model.config import DeviceConfig, ProxyConfig
from igmpconf.model.effective import interface_for, is_named
from igmpconf.model.state import DeviceState, InterfaceRow, MfcRow
from igmpconf.plan.diff import LiveGroup
from igmpconf.plan.impact import active_upstream, is_stream, touched
from igmpconf.plan.plan import DevicePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that should be so and is not."""

    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """`missing` undoes the change when time is up; `warnings` are told."""

    missing: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()


def findings(plan: DevicePlan, before: DeviceState, now: DeviceState, *, allow_down: Collection[str] = ()) -> Findings:
    """What of the plan's target is not so `now`; interfaces named in `allow_down` may be absent or down."""
    check = _Check(plan, before, now, allow_down)
    missing: list[Fact] = []
    warnings: list[str] = []
    for found in check.all():
        if isinstance(found, Fact):
            missing.append(found)
        else:
            warnings.append(found)
    return Findings(missing=tuple(missing), warnings=tuple(dict.fromkeys(warnings)))


class _Check:
    def __init__(self, plan: DevicePlan, before: DeviceState, now: DeviceState, allow_down: Collection[str]) -> None:
        self._plan = plan
        self._target: DeviceConfig = plan.target
        self._before = before
        self._now = now
        self._allow_down = allow_down
        self._touched = touched(plan.changes)

    def all(self) -> Iterator[Fact | str]:
        """Every fact that is missing, and every warning as text."""
        yield from self._running()
        for proxy in self._target.proxies:
            if proxy.enabled is False:
                continue
            yield from self._upstream(proxy)
            yield from self._downstreams(proxy)
            yield from self._static_routes(proxy)
            yield from self._groups(proxy)

    def _running(self) -> Iterator[Fact]:
        runs = self._now.agent.running_digest if self._now.agent is not None else None
        if runs is not None and runs != self._plan.target_digest:
            yield Fact(
                message=f"it runs {runs[:19]}, not the target {self._plan.target_digest[:19]}",
                hint="did somebody else commit meanwhile? see `igmpconf history`",
            )

    def _families(self, proxy: ProxyConfig) -> tuple[str, ...]:
        return proxy.family or ("ipv4",)

    @staticmethod
    def _rows(state: DeviceState, proxy: ProxyConfig, name: str, family: str) -> list[InterfaceRow]:
        return [
            row
            for row in state.interfaces
            if row.instance == proxy.name and row.family == family and (row.interface == name or _entry_name(proxy, row.interface) == name)
        ]

    def _is_allowed(self, name: str) -> bool:
        return is_named(name, self._allow_down)

    def _upstream(self, proxy: ProxyConfig) -> Iterator[Fact | str]:
        entry = active_upstream(proxy)
        if entry is None:
            return
        for family in self._families(proxy):
            rows = self._rows(self._now, proxy, entry.interface, family)
            if any(row.up and row.role == "upstream" for row in rows):
                continue
            state = f"is absent, down, or no port of {proxy.bridge}" if proxy.mode == "bridged" else "is absent or down"
            said = f"upstream {entry.interface} of {proxy.name} {state}" + (f" ({family})" if len(self._families(proxy)) > 1 else "")
            old = [row for row in self._rows(self._before, proxy, entry.interface, family) if row.role == "upstream"]
            was_down = bool(old) and not any(row.up for row in old)
            if was_down or self._is_allowed(entry.interface):
                yield said + (", as before this change" if was_down else "")
            else:
                yield Fact(message=said, hint=f"bring it up, or say that it may come later: --allow-down {entry.interface}")

    def _downstreams(self, proxy: ProxyConfig) -> Iterator[Fact | str]:
        for entry in proxy.interfaces:
            if entry.upstream or entry.enabled is False:
                continue
            for family in self._families(proxy):
                now = {row.interface: row for row in self._rows(self._now, proxy, entry.interface, family) if row.role == "downstream"}
                if not any(row.up for row in now.values()):
                    yield f"downstream {entry.interface} of {proxy.name} is not up yet; it is followed as it appears"
                for old in self._rows(self._before, proxy, entry.interface, family):
                    if old.role != "downstream" or not old.up or self._is_allowed(old.interface):
                        continue
                    row = now.get(old.interface)
                    if row is None or not row.up:
                        said = f"downstream {old.interface} of {proxy.name} was up and is absent or down"
                        yield Fact(message=said, hint=f"if that is meant: --allow-down {old.interface}")
                    elif row.querier is None or (row.querier.address is None and not row.querier.self_):
                        yield Fact(message=f"no querier is known on {old.interface}", hint="its hosts would lose their streams; see `igmpconf show querier`")

    def _static_routes(self, proxy: ProxyConfig) -> Iterator[Fact | str]:
        have = {(str(row.source), str(row.group)) for row in self._now.mfc if row.instance == proxy.name and row.kind == "static"}
        for route in proxy.mfc:
            if (str(route.source), str(route.group)) in have:
                continue
            said = f"permanent entry ({route.source}, {route.group}) of {proxy.name} is not in the kernel"
            arrives = route.upstream_interface or (entry.interface if (entry := active_upstream(proxy)) else "")
            if self._is_up_now(proxy, arrives):
                yield Fact(message=said, hint="see `igmpconf show mfc` and the agent's log")
            else:
                yield f"{said}: {arrives or 'its upstream'} is not up"

    def _is_up_now(self, proxy: ProxyConfig, name: str) -> bool:
        return any(row.up for family in self._families(proxy) for row in self._rows(self._now, proxy, name, family))

    def _groups(self, proxy: ProxyConfig) -> Iterator[Fact | str]:
        """Groups that flowed before, where the plan said that nobody would notice."""
        flowed = {
            live for live in _forwarded(self._before) if live.instance == proxy.name and live not in self._touched and interface_for(proxy, live.interface)
        }
        flows = _forwarded(self._now)
        wanted = {LiveGroup.of(row.instance, row.interface, row.group) for row in self._now.groups}
        ended: dict[str, list[LiveGroup]] = {}
        for live in sorted(flowed - flows):
            if live in wanted:
                yield Fact(message=f"{live.group} is still wanted on {live.interface} and no longer forwarded there", hint="see `igmpconf show mfc`")
            else:
                ended.setdefault(live.interface, []).append(live)
        for interface, gone in ended.items():
            names = ", ".join(live.group for live in gone)
            still = any(live.interface == interface for live in flows)
            if still or len(gone) == 1:
                yield f"{names} ended on {interface} meanwhile"
            else:
                yield Fact(message=f"every group ended on {interface}: {names}", hint="its hosts left, or the change cut them off")


def _entry_name(proxy: ProxyConfig, interface: str) -> str | None:
    entry = interface_for(proxy, interface)
    return entry.interface if entry is not None else None


def _forwarded(state: DeviceState) -> set[LiveGroup]:
    """Groups with a member that are forwarded to it now."""
    routes: dict[tuple[str, str], list[MfcRow]] = {}
    for row in state.mfc:
        if row.state != "withheld":
            routes.setdefault((row.instance, str(row.group)), []).append(row)
    return {
        LiveGroup.of(row.instance, row.interface, row.group)
        for row in state.groups
        if is_stream(row.group) and any(row.interface in route.downstreams for route in routes.get((row.instance, str(row.group)), ()))
    }

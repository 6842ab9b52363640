"""What is wanted of each device: files for one, `igmpconf_config` of the inventory for many; loaded, checked and complained about."""

from __future__ import annotations

import dataclasses
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from igmpconf.errors import InputError
from igmpconf.inventory.hosts import Host
from igmpconf.inventory.patterns import some
from igmpconf.inventory.render import SUFFIX, Origins, rendered
from igmpconf.model.config import DeviceConfig
from igmpconf.model.path import path_text
from igmpconf.model.state import DeviceState
from igmpconf.plan.fleet import Member, check_fleet
from igmpconf.schema.diagnostic import Diagnostic, in_order
from igmpconf.schema.load import Loaded, load_files


@dataclass(frozen=True, slots=True)
class Wanted:
    """The desired state of one device."""

    config: DeviceConfig
    written: dict[str, str]  # path -> duration as the user wrote it, where that is not its canonical text
    put: Callable[[Diagnostic], Diagnostic]  # a finding about a path, with the file and line where it was written


Warn = Callable[[Diagnostic], None]


def _unheard(_warning: Diagnostic) -> None:
    """Nobody wants to know."""


def new_plan_id() -> str:
    """A name for a plan that sorts by time: 20261125-215733-3fa9c1."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + "-" + secrets.token_hex(3)


def of_files(paths: Sequence[Path], *, warn: Warn = _unheard) -> Wanted:
    """What the files want; `warn` hears what is no error.  Raises InputError with every complaint."""
    loaded = load_files(list(paths))
    return _settled([loaded], loaded.diagnostics, [_putting(loaded)], warn)[0]


def of_hosts(hosts: Sequence[Host], *, warn: Warn = _unheard) -> list[Wanted]:
    """What the inventory wants of each host; `warn` hears what is no error.  Raises InputError with every complaint about every host."""
    loads: list[Loaded] = []
    putting: list[Callable[[Diagnostic], Diagnostic]] = []
    told = _Told()
    with _Reader() as reader:
        for host in hosts:
            files = host.config_files()
            if not files:
                raise InputError(
                    f"the inventory does not say what is wanted of {host.name}", hint="give it igmpconf_config: FILE in host_vars or group_vars, or use -f FILE"
                )
            made, loaded = reader.read(host, files)
            loads.append(loaded)
            told.add(host, loaded, made)
            putting.append(_putting(loaded, made, host))
    return _settled(loads, told.diagnostics(), putting, warn)


class _Reader:
    """Reads what hosts want; many want the very same, which is read and checked once."""

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="igmpconf-")
        self._read: dict[tuple[tuple[Path, str | None], ...], tuple[dict[str, _Made], Loaded]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._scratch.cleanup()

    def read(self, host: Host, files: Sequence[Path]) -> tuple[dict[str, _Made], Loaded]:
        """The files, or what became of templates, and what they want together.  Raises InputError when they cannot be read."""
        texts = tuple((path, rendered(path, host.values) if path.suffix == SUFFIX else None) for path in files)
        if texts not in self._read:
            places = (Path(self._scratch.name) / f"{len(self._read)}-{i}.yaml" for i in range(len(texts)))
            made = {str(one.path): one for one in (_made(path, text, place) for (path, text), place in zip(texts, places, strict=True))}
            self._read[texts] = made, load_files([one.path for one in made.values()])
        return self._read[texts]


def _putting(loaded: Loaded, made: Mapping[str, _Made] | None = None, host: Host | None = None) -> Callable[[Diagnostic], Diagnostic]:
    def put(finding: Diagnostic) -> Diagnostic:
        found = loaded.places.put(finding) if loaded.places is not None else finding
        one = (made or {}).get(found.file or "")
        return one.at(found, host) if one is not None and host is not None else found

    return put


@dataclass(frozen=True, slots=True)
class _Made:
    """A file of a host, or what a template became for it: `path` is what was read."""

    path: Path
    template: Path | None = None
    text: str = ""

    def at(self, found: Diagnostic, host: Host) -> Diagnostic:
        """A complaint about the text as one about the template: its line, and its column where the line came out as it was written."""
        if self.template is None:
            return found
        place = Origins(self.template, host.values, self.text).place(found.line) if found.line is not None else None
        if place is None:
            return dataclasses.replace(found, file=str(self.template), line=None, column=None)
        return dataclasses.replace(found, file=str(place.file), line=place.line, column=found.column if place.is_literal else 1)


def _made(path: Path, text: str | None, place: Path) -> _Made:
    """The file itself, or what its template became, written to `place`."""
    if text is None:
        return _Made(path)
    place.write_text(text, encoding="utf-8")
    return _Made(place, path, text)


class _Told:
    """Complaints of many hosts: what a template does wrong for all of them is said once, with their names."""

    def __init__(self) -> None:
        self._hosts: dict[Diagnostic, list[str]] = {}

    def add(self, host: Host, loaded: Loaded, made: Mapping[str, _Made]) -> None:
        for found in loaded.diagnostics:
            one = made.get(found.file or "")
            is_template = one is not None and one.template is not None
            at = self._hosts.setdefault(one.at(found, host) if one is not None else found, [])
            if is_template:
                at.append(host.name)

    def diagnostics(self) -> list[Diagnostic]:
        return [dataclasses.replace(found, message=f"{found.message} (for {some(hosts)})") if hosts else found for found, hosts in self._hosts.items()]


def _settled(loads: Sequence[Loaded], diagnostics: Sequence[Diagnostic], putting: Sequence[Callable[[Diagnostic], Diagnostic]], warn: Warn) -> list[Wanted]:
    complaints = in_order(list(dict.fromkeys(diagnostics)))
    errors = [d for d in complaints if d.is_error]
    if errors:
        raise InputError(f"{len(errors)} error{'s' if len(errors) > 1 else ''} in the desired state", complaints)
    for warning in complaints:
        warn(warning)
    wanted = []
    for loaded, put in zip(loads, putting, strict=True):
        assert loaded.config is not None
        wanted.append(Wanted(loaded.config, {echo.path: echo.written for echo in loaded.echoes}, put))
    return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A device with what is wanted of it, and its state when it was asked."""

    name: str
    wanted: Wanted
    host: Host | None = None
    state: DeviceState | None = None

    @property
    def site(self) -> str:
        return site_of(self.host) if self.host is not None else ""


def site_of(host: Host) -> str:
    """Devices of different sites are not compared.  Raises InputError when the variable cannot be rendered."""
    return str(host.values.get("igmpconf_site", ""))


_MOST_FELLOWS, _MOST_EACH = 500, 10  # a second of reading for a plan of one device, and not much beside what a larger one takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fellows:
    """The other hosts of an inventory that may have to do with those of a plan; `unread` are those that nobody could read.

    `too_many`: there are so many that none was read.
    """

    known: tuple[Planned, ...] = ()
    unread: tuple[str, ...] = ()
    too_many: int = 0


def fellows_of(devices: Sequence[Planned]) -> Fellows:
    """What the inventory wants of the hosts of the same sites that are not among `devices`.  Nobody is asked, nobody's mistake stops us."""
    names = {one.name for one in devices}
    sites = {one.site for one in devices if one.host is not None}
    others = {name: host for one in devices if one.host is not None for name, host in one.host.fellows.items() if name not in names}
    near: dict[str, Host] = {}
    known: list[Planned] = []
    unread: list[str] = []
    for name, host in others.items():
        try:
            if site_of(host) in sites:
                near[name] = host
        except InputError:
            unread.append(name)
    if len(near) > max(_MOST_FELLOWS, _MOST_EACH * len(devices)):
        return Fellows(too_many=len(near))
    with _Reader() as reader:
        for name, host in near.items():
            try:
                if not (files := host.config_files()):
                    continue
                made, loaded = reader.read(host, files)
            except InputError:
                unread.append(name)
                continue
            if loaded.config is None or any(found.is_error for found in loaded.diagnostics):
                unread.append(name)
            else:
                known.append(Planned(name=name, wanted=Wanted(loaded.config, {}, _putting(loaded, made, host)), host=host))
    return Fellows(known=tuple(known), unread=tuple(unread))


def check_together(devices: Sequence[Planned], fellows: Sequence[Planned] = (), *, warn: Warn = _unheard) -> None:
    """What only shows when the devices are seen together; `warn` hears what is no error.  Raises InputError when one is an error.

    `fellows` are compared with the devices, not among themselves.
    """
    everybody = (*devices, *fellows)
    members = [Member(device=one.name, config=one.wanted.config, state=one.state, site=one.site) for one in everybody]
    wanted = {one.name: one.wanted for one in everybody}
    found: list[Diagnostic] = []
    for finding in check_fleet(members, {one.name for one in devices} if fellows else None):
        device, path = finding.at
        at = wanted[device].put(Diagnostic(severity=finding.severity, code=finding.code, path=path_text(path), message=finding.message, hint=finding.hint))
        found.append(dataclasses.replace(at, path=f"{device}: {at.path}", related=tuple(f"{other}: {path_text(place)}" for other, place in finding.related)))
    found = in_order(found)
    errors = [one for one in found if one.is_error]
    if errors:
        raise InputError(f"{len(errors)} error{'s' if len(errors) > 1 else ''} in the fleet", found)
    for one in found:
        warn(one)

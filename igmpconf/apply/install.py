"""The agent onto a device over SSH, and off it again: one file, a service, one line for sshd, and a session that proves it.

Everything is done by POSIX shell on the device, as root or by `sudo -n`.  Each step that changes something knows how to
take it back; when one fails, those before it are taken back and the device is as it was.  What is there already and is
ours is left alone, so that a second install does nothing.
"""

from __future__ import annotations

import hashlib
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import jinja2

from igmpconf.apply.bundle import build
from igmpconf.errors import IgmpconfError, RolledBack, TransportError
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.sshclient import Done, SshShell
from igmpconf.netconf.target import SshTarget

Say = Callable[[str], None]

SERVICE = "igmpconf-agent"
_TEMPLATES = Path(__file__).parent / "templates"
_MARK = "# igmpconf"
_DIGITS = 12  # as agent/exchange.py names files
_STARTS_WITHIN_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where things are on the device; `root` goes before every path (an image, a trial)."""

    root: str = ""

    @property
    def program(self) -> str:
        return f"{self.root}/usr/local/bin/igmpconf-agent"

    @property
    def unit(self) -> str:
        return f"{self.root}/etc/systemd/system/{SERVICE}.service"

    @property
    def sshd_config(self) -> str:
        return f"{self.root}/etc/ssh/sshd_config"

    @property
    def state_dir(self) -> str:
        return f"{self.root}/var/lib/igmpconf"

    @property
    def socket(self) -> str:
        return f"{self.root}/run/igmpconf/agent.sock"

    @property
    def log(self) -> str:
        return f"{self.root}/var/log/igmpconf-agent.log"

    @property
    def words(self) -> str:
        """What `run` and `upgrade` are told."""
        return f"--state-dir {shlex.quote(self.state_dir)} --socket {shlex.quote(self.socket)}"


_FACTS = """
echo uid=$(id -u)
echo system=$(uname -s)
for p in python3 python3.14 python3.13 python3.12 python3.11; do
  f=$(command -v $p) && "$f" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo python=$f; break; }
done
[ -e /proc/net/ip_mr_vif ] && echo mroute=yes
[ -z "$ROOT" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null && echo systemd=yes
for f in $(command -v sshd) /usr/sbin/sshd /usr/local/sbin/sshd; do [ -x "$f" ] && { echo sshd=$f; break; }; done
[ -e "$CONFIG" ] && echo config=yes
grep -hiE '^[[:space:]]*subsystem[[:space:]]+netconf[[:space:]]' "$CONFIG" "$CONFIG".d/*.conf 2>/dev/null | head -n 1 | sed 's/^/subsystem=/'
[ -L "$PROGRAM" ] && echo installed=$(readlink -f "$PROGRAM")
[ -S "$SOCKET" ] && echo socket=yes
exit 0
"""

_UPLOAD = """set -e
mkdir -p "$(dirname "$FILE")"
cat > "$FILE.new"
[ "$(sha256sum < "$FILE.new" | cut -d' ' -f1)" = "$DIGEST" ] || { rm -f "$FILE.new"; echo 'the file did not arrive whole' >&2; exit 1; }
chmod 755 "$FILE.new"
mv "$FILE.new" "$FILE"
"""

# The configuration is tried before sshd reads it: a mistake in it would lock everybody out with the next connection.
_SUBSYSTEM = """set -e
cp -p "$CONFIG" "$CONFIG.igmpconf-before"
{ cat "$CONFIG.igmpconf-before"; [ -z "$(tail -c 1 "$CONFIG.igmpconf-before")" ] || echo; } > "$CONFIG.igmpconf-new"
# before the first Match block, where a Subsystem line may stand
awk -v line="Subsystem netconf $PROGRAM netconf --socket $SOCKET  $MARK" \\
  '!done && tolower($1) == "match" { print line; done = 1 } { print } END { if (!done) print line }' "$CONFIG.igmpconf-new" > "$CONFIG.igmpconf-tried"
chmod --reference="$CONFIG.igmpconf-before" "$CONFIG.igmpconf-tried" 2>/dev/null || chmod 600 "$CONFIG.igmpconf-tried"
rm -f "$CONFIG.igmpconf-new"
"$SSHD" -t -f "$CONFIG.igmpconf-tried" || { rm -f "$CONFIG.igmpconf-tried" "$CONFIG.igmpconf-before"; exit 1; }
mv "$CONFIG.igmpconf-tried" "$CONFIG"
rm -f "$CONFIG.igmpconf-before"
"""

_NO_SUBSYSTEM = """set -e
grep -v "$MARK\\$" "$CONFIG" > "$CONFIG.igmpconf-new" || true
chmod --reference="$CONFIG" "$CONFIG.igmpconf-new" 2>/dev/null || chmod 600 "$CONFIG.igmpconf-new"
mv "$CONFIG.igmpconf-new" "$CONFIG"
"""

_RELOAD_SSHD = """
if [ -z "$ROOT" ] && [ -d /run/systemd/system ]; then systemctl reload ssh 2>/dev/null || systemctl reload sshd; exit; fi
for f in "$ROOT/run/sshd.pid" "$ROOT/var/run/sshd.pid"; do [ -s "$f" ] && kill -HUP "$(cat "$f")" && exit 0; done
echo 'sshd has no pid file; reload it by hand' >&2
exit 1
"""

_START_DETACHED = """
mkdir -p "$(dirname "$LOG")"
setsid "$PROGRAM" run $WORDS >> "$LOG" 2>&1 < /dev/null &
"""

_WAIT = """
i=0
while [ $i -lt $SECONDS_ ]; do [ -S "$SOCKET" ] && exit 0; sleep 0.2; i=$((i + 1)); done
exit 1
"""

_STOP_DETACHED = """
pid=$(cat "$STATE/engine.pid" 2>/dev/null) || exit 0
keeper=$(sed 's/.*) . \\([0-9]*\\) .*/\\1/' "/proc/$pid/stat" 2>/dev/null) || exit 0
grep -qa igmpconf "/proc/$keeper/cmdline" || exit 1
kill "$keeper"
i=0
while [ $i -lt 100 ] && [ -e "/proc/$keeper" ]; do sleep 0.2; i=$((i + 1)); done
[ ! -e "/proc/$keeper" ]
"""


@dataclass(slots=True)
class _Undo:
    """What was done, so that it can be taken back, last first."""

    steps: list[tuple[str, Callable[[], object]]] = field(default_factory=list)

    def add(self, what: str, undo: Callable[[], object]) -> None:
        self.steps.append((what, undo))

    def all(self, say: Say) -> None:
        for what, undo in reversed(self.steps):
            try:
                undo()
            except IgmpconfError as error:
                say(f"could not {what}: {error.message}")


class Installer:
    """One device.  Every method raises IgmpconfError, and then the device is as it was before."""

    def __init__(self, target: SshTarget, *, layout: Layout | None = None, say: Say) -> None:
        self.target = target
        self.layout = layout or Layout()
        self._say = say
        self._shell = SshShell(target, say=say)
        self._sudo = False
        self.facts = self._facts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.close()

    # what the commands do

    def install(self) -> str:
        """The version that runs afterwards."""
        self._check()
        if self.facts.get("socket"):
            if self.facts.get("installed"):
                self._say("an agent is installed and runs already; `igmpconf agent upgrade` brings another version")
                return self._greeted()
            raise IgmpconfError(
                f"{self.target.device}: an agent runs there that was not installed by us", hint=f"stop it first; it listens on {self.layout.socket}"
            )
        data = self._built()
        undo = _Undo()
        try:
            self._place(data, undo)
            self._serve(undo)
            self._subsystem(undo)
            return self._greeted()
        except BaseException:
            undo.all(self._say)
            raise

    def upgrade(self) -> str:
        """The version that runs afterwards.  Raises RolledBack when the former one runs again."""
        if not self.facts.get("installed"):
            raise IgmpconfError(f"{self.target.device}: no agent of ours is installed", hint="igmpconf agent install")
        data = self._built()
        place = f"{self.layout.program}-upload.pyz"
        self._upload(data, place)
        try:
            done = self._run(f"{shlex.quote(self.layout.program)} upgrade {shlex.quote(place)} {self.layout.words}", within_s=150)
        finally:
            self._run(f"rm -f {shlex.quote(place)}")
        lines = [line.removeprefix("igmpconf-agent: ").removeprefix("  ") for line in done.said.strip().splitlines()]
        if done.status == RolledBack.exit_code:
            raise RolledBack(
                (self.target.device,), f"{self.target.device}: {lines[-2] if len(lines) > 1 else lines}", hint="the log of the device has its last words"
            )
        if done.status != 0:
            raise IgmpconfError(f"{self.target.device}: " + "; ".join(lines or [f"exit code {done.status}"]))
        for line in lines:
            self._say(line)
        return self._greeted()

    def uninstall(self, *, purge: bool) -> None:
        """Streams end: the agent leaves every upstream.  The state directory stays unless `purge`."""
        if self.facts.get("subsystem", "").endswith(_MARK):
            self._must("take the line out of sshd_config", _NO_SUBSYSTEM)
            self._must("reload sshd", _RELOAD_SSHD)
        if self.facts.get("systemd"):
            self._must(
                "remove the service",
                f"systemctl disable --now {SERVICE} 2>/dev/null; rm -f {shlex.quote(self.layout.unit)} && systemctl daemon-reload",
            )
        else:
            self._must("stop the agent", _STOP_DETACHED)
        self._must("remove the program", 'rm -f "$PROGRAM" "$PROGRAM"-????????????.pyz')
        if purge:
            self._must("remove the state directory", 'rm -rf "$STATE"')

    # steps

    def _built(self) -> bytes:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "igmpconf-agent.pyz"
            build(file, interpreter=self.facts["python"])
            return file.read_bytes()

    def _check(self) -> None:
        device, facts = self.target.device, self.facts
        if facts.get("system") != "Linux":
            raise IgmpconfError(f"{device}: the agent needs Linux, this is {facts.get('system', 'something else')}")
        if not facts.get("python"):
            raise IgmpconfError(f"{device}: there is no Python 3.11 or newer", hint="install one: Debian 12 and OpenWrt 23.05 have it as python3")
        if not facts.get("mroute"):
            raise IgmpconfError(
                f"{device}: the kernel has no multicast routing (CONFIG_IP_MROUTE)", hint="every Debian kernel has it; OpenWrt's kmod-ipt-core does not"
            )
        if not facts.get("sshd") or not facts.get("config"):
            raise IgmpconfError(
                f"{device}: there is no OpenSSH server with {self.layout.sshd_config}",
                hint="NETCONF needs a subsystem, which Dropbear does not have: install openssh-server",
            )

        other = facts.get("subsystem", "")
        if other and "igmpconf-agent" not in other:
            raise IgmpconfError(
                f"{device}: sshd leads NETCONF to another program: {other}", hint="one sshd has one subsystem netconf: take that line out first"
            )

    def _place(self, data: bytes, undo: _Undo) -> None:
        place = f"{self.layout.program}-{hashlib.sha256(data).hexdigest()[:_DIGITS]}.pyz"
        undo.add("remove the program", lambda: self._must("remove the program", f'rm -f "$PROGRAM" {shlex.quote(place)}'))
        self._upload(data, place)
        said = self._must("start the program", f"{shlex.quote(place)} --version").output.strip()
        self._must("name the program", f'ln -sfn {shlex.quote(Path(place).name)} "$PROGRAM"')
        self._say(f"{said}: {place}")

    def _upload(self, data: bytes, place: str) -> None:
        script = f"FILE={shlex.quote(place)} DIGEST={hashlib.sha256(data).hexdigest()}\n{_UPLOAD}"
        done = self._run(script, data, within_s=300)
        if done.status != 0:
            raise IgmpconfError(f"{self.target.device}: cannot write {place}: {done.said.strip() or done.status}")

    def _serve(self, undo: _Undo) -> None:
        if self.facts.get("systemd"):
            undo.add(
                "remove the service",
                lambda: self._must("remove the service", f"systemctl disable --now {SERVICE}; rm -f {self.layout.unit}; systemctl daemon-reload"),
            )
            done = self._run(f"cat > {shlex.quote(self.layout.unit)}", unit(self.layout).encode())
            if done.status != 0:
                raise IgmpconfError(f"{self.target.device}: cannot write {self.layout.unit}: {done.said.strip()}")
            self._must(
                "start the service",
                f"systemctl daemon-reload && systemctl enable --now {SERVICE} || {{ journalctl -u {SERVICE} -n 5 --no-pager >&2; exit 1; }}",
            )
            self._say(f"service {SERVICE} is enabled and runs")
        else:
            undo.add("stop the agent", lambda: self._must("stop the agent", _STOP_DETACHED))
            self._must("start the agent", _START_DETACHED)
            self._say(f"there is no systemd: the agent was started and logs to {self.layout.log}; for the next boot, where your init starts programs:")
            self._say(f"    setsid {self.layout.program} run {self.layout.words} >> {self.layout.log} 2>&1 < /dev/null &")
        done = self._run(_WAIT, within_s=_STARTS_WITHIN_S + 30)
        if done.status != 0:
            said = self._run('tail -n 3 "$LOG" 2>/dev/null').output.strip()
            raise IgmpconfError(f"{self.target.device}: the agent does not come to listen on {self.layout.socket}" + (f": {said}" if said else ""))

    def _subsystem(self, undo: _Undo) -> None:
        found = self.facts.get("subsystem")
        if found:
            self._say(f"sshd has it already: {found}")
            return
        undo.add("take the line out of sshd_config", lambda: self._must("take the line out of sshd_config", f"{_NO_SUBSYSTEM}\n{_RELOAD_SSHD}"))
        self._must("add the subsystem to sshd_config", _SUBSYSTEM)
        self._must("reload sshd", _RELOAD_SSHD)
        self._say(f"sshd has the subsystem netconf: {self.layout.sshd_config}")

    def _greeted(self) -> str:
        """A session of its own, as every later command opens it.  sshd may still be reading its configuration."""
        for attempt in range(10):
            try:
                with NetconfClient.connect(self.target, say=self._say):
                    break
            except TransportError:
                if attempt == 9:
                    raise
                self._run("sleep 0.3")
        said = self._must("ask for the version", f"{shlex.quote(self.layout.program)} --version").output
        return said.removeprefix("igmpconf-agent ").partition(",")[0]

    # the shell

    def _facts(self) -> dict[str, str]:
        facts = self._asked()
        if facts.get("uid") != "0":
            self._sudo = True
            if self._run("true").status != 0:
                user = facts.get("uid", "this user")
                raise IgmpconfError(
                    f"{self.target.device}: uid {user} is not root there and `sudo -n` is refused", hint="log in as root, or allow sudo without a password"
                )
            facts = self._asked()
        return facts

    def _asked(self) -> dict[str, str]:
        lines = [line.partition("=") for line in self._must("look around", _FACTS).output.splitlines()]
        return {name: value for name, equals, value in lines if equals}

    def _must(self, what: str, script: str) -> Done:
        done = self._run(script)
        if done.status != 0:
            said = "; ".join(done.said.strip().splitlines()[-3:])
            raise IgmpconfError(f"{self.target.device}: cannot {what}: {said or f'exit code {done.status}'}")
        return done

    def _run(self, script: str, data: bytes = b"", *, within_s: float = 120.0) -> Done:
        layout = self.layout
        names = {
            "ROOT": layout.root,
            "PROGRAM": layout.program,
            "SOCKET": layout.socket,
            "CONFIG": layout.sshd_config,
            "STATE": layout.state_dir,
            "LOG": layout.log,
            "WORDS": layout.words,
            "MARK": _MARK,
            "SSHD": self.facts.get("sshd", "") if hasattr(self, "facts") else "",
            "SECONDS_": str(_STARTS_WITHIN_S * 5),
        }
        whole = "".join(f"{name}={shlex.quote(value)}\n" for name, value in names.items()) + script
        command = f"sh -c {shlex.quote(whole)}"
        return self._shell.run(f"sudo -n {command}" if self._sudo else command, data, within_s=within_s)


def unit(layout: Layout) -> str:
    """The systemd unit."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - no HTML
    return environment.get_template(f"{SERVICE}.service.j2").render(
        program=layout.program,
        state_dir=layout.state_dir,
        socket=layout.socket,
        socket_dir=str(Path(layout.socket).parent),
        program_dir=str(Path(layout.program).parent),
    )

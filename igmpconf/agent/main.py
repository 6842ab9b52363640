"""The agent's command line: `igmpconf-agent run`, `igmpconf-agent netconf` and `igmpconf-agent upgrade`.

`run` is two processes, see keeper.py: this file starts the keeper, and is what the keeper starts as worker.
`netconf` is started for every session, on slow devices too, so everything that it does without is imported later.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from igmpconf.agent.relay import relay

_STATE_DIR = Path("/var/lib/igmpconf")
_SOCKET = Path("/run/igmpconf/agent.sock")
_USAGE = 64  # exit code of contract.md for a wrong command line (sysexits.h EX_USAGE)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(_USAGE, f"{self.prog}: {message}\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from igmpconf.agent.document import VERSION  # noqa: PLC0415 - the keeper stays small without the model
        from igmpconf.observe.record import program_version  # noqa: PLC0415 - as above

        sys.stdout.write(f"igmpconf-agent {program_version()}, state directory version {VERSION}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="igmpconf-agent", description="The on-device part of igmpconf: IGMP/MLD proxy engine and NETCONF server.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version, and that of the state directory that it writes")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="run|netconf|upgrade")
    run = verbs.add_parser("run", help="run the engine and serve NETCONF on a unix socket, in the foreground")
    run.add_argument("--state-dir", type=Path, default=_STATE_DIR, metavar="DIR", help=f"where the configuration and its journal are kept ({_STATE_DIR})")
    run.add_argument("--socket", type=Path, default=_SOCKET, metavar="PATH", help=f"unix socket that NETCONF is served on ({_SOCKET})")
    where = run.add_mutually_exclusive_group()
    where.add_argument("--ssh", metavar="ADDR:PORT", help="serve NETCONF over SSH as well (development and lab; needs paramiko)")
    where.add_argument("--ssh-fd", type=int, metavar="N", help="the same on a listening TCP socket that is inherited as descriptor N")
    run.add_argument("--host-key", type=Path, metavar="FILE", help="with --ssh: private host key")
    run.add_argument("--authorized-keys", type=Path, metavar="FILE", help="with --ssh: public keys that may log in")
    run.add_argument(
        "--record", type=Path, metavar="FILE", help="append everything the engines are told and answer, for `igmpconf replay FILE`; 64 MiB at most"
    )
    netconf = verbs.add_parser("netconf", help="connect standard input and output to the agent: the command of OpenSSH's netconf subsystem")
    netconf.add_argument("--socket", type=Path, default=_SOCKET, metavar="PATH", help=f"the agent's unix socket ({_SOCKET})")
    other = verbs.add_parser("upgrade", help="let another igmpconf-agent.pyz take over; running streams lose nothing, and one that does not serve is undone")
    other.add_argument("file", type=Path, metavar="FILE.pyz", help="the agent to upgrade to")
    other.add_argument("--state-dir", type=Path, default=_STATE_DIR, metavar="DIR", help=f"state directory of the agent that runs ({_STATE_DIR})")
    other.add_argument("--socket", type=Path, default=_SOCKET, metavar="PATH", help=f"its unix socket ({_SOCKET})")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (contract.md section 2)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.verb == "netconf":
        return relay(options.socket)
    from igmpconf.agent.keeper import say  # noqa: PLC0415 - not for a relay
    from igmpconf.errors import IgmpconfError  # noqa: PLC0415 - as above

    if options.verb == "upgrade":
        return _upgrade(options)
    if (options.ssh or options.ssh_fd is not None) and not (options.host_key and options.authorized_keys):
        parser.error("--ssh needs --host-key and --authorized-keys")
    if options.ssh and _split(options.ssh) is None:
        parser.error(f"--ssh {options.ssh}: expected ADDR:PORT, such as 127.0.0.1:8300 or [::1]:8300")
    try:
        return _run(options, list(sys.argv[1:] if arguments is None else arguments))
    except IgmpconfError as error:
        say(error.message, error.hint)
        return error.exit_code


def _upgrade(options: argparse.Namespace) -> int:
    from igmpconf.agent.exchange import upgrade  # noqa: PLC0415 - of use to nobody else
    from igmpconf.agent.keeper import say  # noqa: PLC0415 - not for a relay
    from igmpconf.errors import IgmpconfError  # noqa: PLC0415 - as above

    try:
        return upgrade(options.file, state_dir=options.state_dir, serving=options.socket)
    except IgmpconfError as error:
        say(error.message, error.hint)
        return error.exit_code


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from igmpconf.agent.keeper import Keeper, KeeperLink, control_path, inherited, is_going_on, note_program  # noqa: PLC0415 - not for a relay

    held = inherited()
    extra_fds = () if options.ssh_fd is None else (options.ssh_fd,)
    command = (sys.executable, "-P", "-m", "igmpconf.agent.main", *arguments)
    link = KeeperLink.from_environment()
    if link is None:
        if not is_going_on():
            _check_start(options)
        note_program(sys.argv[0])
        others = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place not in {"", _own_place()}]
        os.environ["PYTHONPATH"] = os.pathsep.join((_own_place(), *others))
        return Keeper(command, held, extra_fds, control=control_path(options.socket), serving=options.socket).run()
    if not options.ssh and options.ssh_fd is None:
        _do_without_openssl()
    from igmpconf.agent.worker import WorkerOptions, work  # noqa: PLC0415 - the keeper stays small without the engine

    ssh = None
    if options.ssh or options.ssh_fd is not None:
        from igmpconf.agent.sshoptions import SshOptions  # noqa: PLC0415 - with --ssh only

        ssh = SshOptions(
            address=_split(options.ssh) if options.ssh else None,
            listen_fd=None if options.ssh_fd is None else os.dup(options.ssh_fd),
            host_key=options.host_key,
            authorized_keys=options.authorized_keys,
        )
    return work(
        WorkerOptions(state_dir=options.state_dir, socket_path=options.socket, ssh=ssh, command=command, extra_fds=extra_fds, record=options.record),
        link,
        {name: socket.socket(fileno=fd) for name, fd in held.items()},
    )


def _own_place() -> str:
    """Where this package was imported from: a directory, or the one file the agent was installed as."""
    return str(Path(__file__).resolve().parents[2])


def _check_start(options: argparse.Namespace) -> None:
    """What no retry would cure is said before anything is started."""
    from igmpconf.errors import IgmpconfError  # noqa: PLC0415 - not for a relay
    from igmpconf.linux.refusal import lacking, missing_capabilities  # noqa: PLC0415 - as above

    missing = missing_capabilities()
    if missing:
        raise lacking("route multicast", missing)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(options.socket))
        except OSError:
            pass
        else:
            raise IgmpconfError(f"an agent already answers on {options.socket}", hint="stop it first, or give this one another --socket and --state-dir")
    for directory, option in ((options.state_dir, "--state-dir"), (options.socket.parent, "--socket")):
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise IgmpconfError(f"cannot create {directory}: {error.strerror}", hint=f"give a place you may write to with {option}") from error


def _do_without_openssl() -> None:
    """Keep asyncio and hashlib from loading OpenSSL, 5 MB that an agent behind sshd never uses; hashlib has SHA-2 of its own."""
    for name in ("ssl", "_hashlib"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # the documented way to say "there is none"


def _split(text: str) -> tuple[str, int] | None:
    address, colon, port = text.rpartition(":")
    if not colon or not address or not port.isdigit() or int(port) > 65_535:
        return None
    return address.removeprefix("[").removesuffix("]"), int(port)


if __name__ == "__main__":
    sys.exit(main())

"""`igmpconf-agent netconf`: standard input and output to the agent's socket and back, for OpenSSH's subsystem.

Octets pass unread; when one side ends its stream, that end is passed on and the other direction goes on.  A client
that asks for a terminal (`ssh -tt -s`, as scrapli does) gets one that changes no octet: a cooked one would echo every
request and write CR LF for LF, which is neither XML's nor NETCONF's.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import termios
import threading
import tty
from pathlib import Path

_BLOCK_BYTES = 64 * 1024
EXIT_DONE = 0
EXIT_UNREACHABLE = 5  # contract: unreachable or refused


def relay(socket_path: Path, *, stdin: int = 0, stdout: int = 1) -> int:
    """Run until the agent closes the session; the answer is the exit code."""
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        agent.connect(str(socket_path))
    except OSError as error:
        agent.close()
        sys.stderr.write(f"igmpconf-agent: cannot reach the agent at {socket_path}: {_reason(error)}\n")
        return EXIT_UNREACHABLE
    with agent:
        try:
            _make_transparent(stdin)
            _pass_on(agent, stdin, stdout)
        except BrokenPipeError:
            return EXIT_DONE  # whoever reads our output has left; closing the socket tells the agent
        except OSError as error:
            sys.stderr.write(f"igmpconf-agent: the session was lost: {error.strerror}\n")
            return EXIT_UNREACHABLE
    return EXIT_DONE


def _reason(error: OSError) -> str:
    if error.errno in {errno.ENOENT, errno.ECONNREFUSED}:
        return "it is not running; start it with 'igmpconf-agent run', or systemctl start igmpconf-agent"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "permission denied; join the group igmpconf"
    return error.strerror or str(error)


def _make_transparent(stdin: int) -> None:
    """Before the first octet of the agent's hello passes: no client writes earlier than that."""
    if os.isatty(stdin):
        try:
            tty.setraw(stdin)
        except termios.error:
            return  # hung up already: the first read says so


def _pass_on(agent: socket.socket, stdin: int, stdout: int) -> None:
    """Each direction blocks for itself: a slow reader slows the other end, fills no memory, and cannot lock both up."""
    threading.Thread(target=_forward, args=(agent, stdin), name="stdin", daemon=True).start()
    while block := agent.recv(_BLOCK_BYTES):
        _write(stdout, block)


def _forward(agent: socket.socket, stdin: int) -> None:
    try:
        while block := _read(stdin):
            agent.sendall(block)
        agent.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the agent closed the session: the other direction sees it and ends the program


def _read(stdin: int) -> bytes:
    try:
        return os.read(stdin, _BLOCK_BYTES)
    except OSError:
        return b""  # a terminal that hung up says EIO where a pipe ends


def _write(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]

"""Where the user's lab lives, and whether it runs: for the commands that take it as their device, and quick to import."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def home_directory() -> Path:
    """`$XDG_STATE_HOME/igmpconf/lab`, by default below ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "igmpconf" / "lab"


def connected(home: Path) -> socket.socket | None:
    """A connection to the supervisor of the lab under `home`, or None when none runs there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(str(home / "control.sock"))
    except OSError:  # also a path that is too long
        connection.close()
        return None
    return connection


def running_inventory() -> Path | None:
    """The inventory of the user's lab while it runs; what a lab that was killed or a reboot left is None."""
    home = home_directory()
    connection = connected(home)
    if connection is None:
        return None
    connection.close()
    inventory = home / "inventory.yaml"  # absent from a lab without an agent
    return inventory if inventory.is_file() else None

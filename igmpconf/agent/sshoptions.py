"""What the embedded SSH server needs to know; apart from `ssh.py`, so that naming it does not need paramiko."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SshOptions:
    """Either `address` to listen on (port 0: any free one), or a listening socket inherited as `listen_fd`."""

    address: tuple[str, int] | None = None
    listen_fd: int | None = None
    host_key: Path  # made (ed25519, mode 0600) when it is absent
    authorized_keys: Path  # read anew at every login

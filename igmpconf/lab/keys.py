"""Fresh keys for one lab, and the inventory through which the ordinary commands find it."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def write_access(home: Path, port: int) -> None:
    """Write client key, host key, authorized_keys, known_hosts and inventory.yaml for a router at 127.0.0.1:`port`."""
    host_key = _write_key(home / "host_key")
    client_key = _write_key(home / "client_key")
    (home / "authorized_keys").write_text(client_key + "\n", encoding="ascii")
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n", encoding="ascii")
    router = {
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_user": getpass.getuser(),
        "ansible_ssh_private_key_file": str(home / "client_key"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={home / 'known_hosts'} -o IdentitiesOnly=yes",
    }
    (home / "inventory.yaml").write_text(yaml.safe_dump({"all": {"hosts": {"router": router}}}, sort_keys=False), encoding="utf-8")


def _write_key(path: Path) -> str:
    """Make an ed25519 key, write its secret half for its owner alone, return the public line."""
    key = Ed25519PrivateKey.generate()
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")

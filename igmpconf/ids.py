"""Identities: values that must not be mistaken for one another, and nothing else."""

from __future__ import annotations

from typing import NewType

IfIndex = NewType("IfIndex", int)  # the kernel's interface index; changes when an interface is re-created
VifIndex = NewType("VifIndex", int)  # 0..31, index into a multicast routing table's interfaces
TableId = NewType("TableId", int)  # kernel multicast routing table (MRT_TABLE); 0 is the default table
DeviceName = NewType("DeviceName", str)  # the controller's name for a device
SessionId = NewType("SessionId", int)  # NETCONF session-id, 1..2**32-1 (RFC 6241 8.1)
PersistId = NewType("PersistId", str)  # token of a persistent confirmed commit (RFC 6241 8.4)

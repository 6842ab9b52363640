"""`igmpconf sniff`: IGMP and MLD on an interface of a device, live, decoded by the codecs of the engine."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import click

from igmpconf.cli.devices import chosen, device_options, talk
from igmpconf.engine.family import IGMP, MLD
from igmpconf.engine.messages import Query, Report
from igmpconf.engine.spoken import spoken
from igmpconf.engine.wire.ip import parse_ipv4
from igmpconf.errors import IgmpconfError, InputError, RpcFailed, TransportError, WireError
from igmpconf.model.answers import CapturedPacket, CapturePage
from igmpconf.netconf.client import NetconfClient
from igmpconf.observe.pcap import PcapWriter
from igmpconf.schema.xml import NAMESPACE, DataError, xml_to_answer

POLL_S = 0.2
_COOKED_BYTES = 16
_KINDS = ("query", "report", "leave", "igmp", "mld", "in", "out")


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="[DEVICE] IFACE")
@device_options
@click.option("--write", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the packets to FILE as pcapng as well.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many packets.")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="End after so long.")
@click.option("--filter", "wanted", multiple=True, metavar="WORD", help=f"Only packets to which every WORD applies: {', '.join(_KINDS)}, or an address in it.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="json: one object a line.")
def sniff(
    *,
    places: tuple[str, ...],
    device: str | None,
    limit: str | None,
    inventory: Path | None,
    file: Path | None,
    count: int | None,
    seconds: float | None,
    wanted: tuple[str, ...],
    form: str,
) -> int:
    """Show the IGMP and MLD messages that pass on IFACE, in both directions, until Ctrl-C."""
    if len(places) > 2 or (len(places) == 2 and device is not None):
        raise click.UsageError("expected one device and one interface")
    interface = places[-1]
    _check_filter(wanted)
    devices = chosen(places[0] if len(places) == 2 else device, limit, inventory)
    if len(devices) != 1:
        raise click.UsageError(f"sniff is for one device, and {len(devices)} are chosen; choose one with -d")
    until_s = None if seconds is None else time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        writer = None
        if file is not None:
            try:
                writer = PcapWriter(stack.enter_context(file.open("wb")), interface)
            except OSError as error:
                raise InputError(f"cannot write {file}: {error.strerror}") from error
        client = stack.enter_context(NetconfClient.connect(devices[0].target, say=talk))
        shown = 0
        with contextlib.suppress(KeyboardInterrupt):
            for packet in _packets(client, interface, until_s):
                row = decoded(packet)
                if not _matches(row, wanted):
                    continue
                if writer is not None:
                    writer.packet(packet.time_us, bytes.fromhex(packet.frame), packet.length, is_outgoing=packet.outgoing)
                click.echo(_line(row) if form == "text" else json.dumps(row, ensure_ascii=False))
                shown += 1
                if shown == count:
                    break
    return 0


def _packets(client: NetconfClient, interface: str, until_s: float | None) -> Iterator[CapturedPacket]:
    name = _ask(client, "begin-capture", "interface", interface, f"beginning a capture on {interface}").id
    talk(f"{client.device}: listening on {interface}")
    try:
        while until_s is None or time.monotonic() < until_s:
            page = _ask(client, "read-capture", "id", name, "reading the capture")
            if page.lost:
                talk(f"{client.device}: {page.lost} packets came faster than they may be sent here; they are lost")
            yield from page.packets
            if not page.packets:
                time.sleep(POLL_S)
    finally:
        operation = Element(f"{{{NAMESPACE}}}end-capture")
        SubElement(operation, f"{{{NAMESPACE}}}id").text = name
        with contextlib.suppress(IgmpconfError):  # it ends by itself soon
            client.rpc(operation, "ending the capture")


def _ask(client: NetconfClient, operation: str, parameter: str, value: str, doing: str) -> CapturePage:
    asked = Element(f"{{{NAMESPACE}}}{operation}")
    SubElement(asked, f"{{{NAMESPACE}}}{parameter}").text = value
    try:
        return xml_to_answer(CapturePage, client.rpc(asked, doing))
    except DataError as error:
        raise TransportError(client.device, f"{client.device} sent a capture that we do not understand: {error}", retryable=False) from None
    except RpcFailed as error:
        raise RpcFailed(error.device, error.message, error.errors, hint=error.hint or "`igmpconf show interfaces` names the interfaces") from None


def decoded(packet: CapturedPacket) -> dict[str, Any]:
    """The packet as JSON has it: who to whom, what it is, and what it says; `error` in place of `message` if it is malformed."""
    when = dt.datetime.fromtimestamp(packet.time_us / 1e6, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    row: dict[str, Any] = {"time": when, "direction": "out" if packet.outgoing else "in"}
    data = bytes.fromhex(packet.frame)[_COOKED_BYTES:]
    try:
        if data[:1] and data[0] >> 4 == 4:
            family, datagram = IGMP, parse_ipv4(data)
            sender, destination, payload, ttl = datagram.sender, datagram.destination, datagram.payload, datagram.ttl
        else:
            family = MLD
            sender, destination, payload, ttl = _ipv6(data)
        row |= {"protocol": family.protocol, "sender": family.text(sender), "destination": family.text(destination), "ttl": ttl}
        message = family.decode(payload, sender, destination, ttl, True)
        row |= {"kind": _kind(message, family.latest_version), "version": message.version, "message": spoken(message, family)}
    except WireError as error:
        row |= {"kind": "malformed", "error": error.reason}
    return row


def _ipv6(data: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Sender, destination, MLD message, hop limit; the capture lets no other extension header in than a short hop-by-hop one."""
    if len(data) < 48:
        raise WireError("ip-header", 0)
    return data[8:24], data[24:40], data[48:] if data[6] == 0 else data[40:], data[7]


def _kind(message: Query | Report, latest: int) -> str:
    if isinstance(message, Query):
        return "query"
    return "leave" if message.version < latest and message.records[0].kind == 3 else "report"


def _line(row: dict[str, Any]) -> str:
    what = row.get("message") or f"malformed: {row['error']}"
    return f"{row['time'][11:23]} {row['direction']:<3} {row.get('protocol', '?')} {row.get('sender', '?')} > {row.get('destination', '?')} {what}"


def _check_filter(words: tuple[str, ...]) -> None:
    for word in words:
        if word in _KINDS:
            continue
        try:
            ipaddress.ip_address(word)
        except ValueError:
            raise InputError(f"--filter {word}: expected one of {', '.join(_KINDS)}, or an address") from None


def _matches(row: dict[str, Any], words: tuple[str, ...]) -> bool:
    said = {row["kind"], row["direction"], str(row.get("protocol")).lower(), row.get("sender"), row.get("destination")}
    text = str(row.get("message", "")).replace("{", " ").replace("}", " ").replace(",", " ").replace(";", " ").split()
    return all((word if word in _KINDS else str(ipaddress.ip_address(word))) in {*said, *text} for word in words)

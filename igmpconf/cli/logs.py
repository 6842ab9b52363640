"""`igmpconf logs`: what the agent did and why, as it remembers it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import click

from igmpconf.cli.devices import Device, chosen, device_options, talk
from igmpconf.errors import TransportError
from igmpconf.model.answers import MOST_LINES, LogPage, LogRow
from igmpconf.netconf.client import NetconfClient
from igmpconf.observe.log import text
from igmpconf.schema.xml import NAMESPACE, DataError, xml_to_answer

POLL_S = 0.3


@click.command()
@click.argument("name", metavar="[DEVICE]", required=False)
@device_options
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(1, MOST_LINES), default=200, show_default=True, help="How many lines to begin with.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="json: one object a line.")
def logs(*, name: str | None, device: str | None, limit: str | None, inventory: Path | None, lines: int, form: str, follow: bool) -> int:
    """Show the agent's log: memberships, forwarding, queriers, interfaces, commits, each with its cause.

    `logging` of the desired state says what is kept: topics (debug for every forwarding entry), action, size.
    """
    if name is not None and device is not None:
        raise click.UsageError("name the device once")
    devices = chosen(name if name is not None else device, limit, inventory)
    if len(devices) != 1:
        raise click.UsageError(f"logs is for one device, and {len(devices)} are chosen; choose one with -d")
    try:
        for row in _rows(devices[0], lines, follow=follow):
            click.echo(text(row) if form == "text" else json.dumps(plain(row), ensure_ascii=False))
    except KeyboardInterrupt:
        pass
    return 0


def plain(row: LogRow) -> dict[str, Any]:
    """The line as JSON has it: `fields` is an object."""
    return {**dataclasses.asdict(row), "fields": {one.name: one.value for one in row.fields}}


def _rows(device: Device, lines: int, *, follow: bool) -> Iterator[LogRow]:
    with NetconfClient.connect(device.target, say=talk) as client:
        page = log_page(client, None, lines)
        yield from page.lines
        while follow:
            after = page.lines[-1].number if page.lines else page.last
            page = log_page(client, after, MOST_LINES)
            if page.lost:
                talk(f"{device.name}: {page.lost} lines came faster than they could be shown; they are lost")
            yield from page.lines
            if not page.lines:
                time.sleep(POLL_S)


def log_page(client: NetconfClient, after: int | None, limit: int) -> LogPage:
    """Some lines of the log.  Raises TransportError, RpcFailed."""
    operation = Element(f"{{{NAMESPACE}}}get-log")
    if after is not None:
        SubElement(operation, f"{{{NAMESPACE}}}after").text = str(after)
    SubElement(operation, f"{{{NAMESPACE}}}limit").text = str(limit)
    try:
        return xml_to_answer(LogPage, client.rpc(operation, "reading its log"))
    except DataError as error:
        raise TransportError(client.device, f"{client.device} sent a log that we do not understand: {error}", retryable=False) from None

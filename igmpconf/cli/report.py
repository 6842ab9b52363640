"""`igmpconf report`: the whole fleet on one page, as Markdown, as JSON, or as an HTML file that needs nothing else."""

from __future__ import annotations

import importlib.resources
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from jinja2 import Environment, StrictUndefined

from igmpconf.apply.session import device_state, running_config
from igmpconf.cli.desired import of_hosts
from igmpconf.cli.devices import Device, chosen, device_options, for_each, talk
from igmpconf.errors import IgmpconfError, InputError
from igmpconf.netconf.client import NetconfClient
from igmpconf.plan.diff import diff
from igmpconf.plan.report import Answer, Report, document, size_text
from igmpconf.plan.report import report as made_report

_TEMPLATE = "templates/report.html.j2"


@click.command()
@device_options
@click.option("--html", "out", type=click.Path(path_type=Path), metavar="FILE", help="Write an HTML page in place of Markdown on stdout.")
@click.option("--format", "form", type=click.Choice(["markdown", "json"]), default="markdown", show_default=True, help="What is printed on stdout.")
def report(*, device: str | None, limit: str | None, inventory: Path | None, out: Path | None, form: str) -> int:
    """Show the fleet on one page: which devices answer and are as wanted, who watches what, what deviates.

    A device that does not answer is in it, and is no error of this command.
    """
    if out is not None and form == "json":
        raise click.UsageError("--html writes a page and prints nothing; leave out --format json, or --html")
    answers = [_answer(one, said) for one, said in _asked(chosen(device, limit, inventory))]
    now = time.gmtime()
    if form == "json":
        click.echo(json.dumps(document(answers, at=time.strftime("%Y-%m-%dT%H:%M:%SZ", now)), indent=2, ensure_ascii=False))
        return 0
    page = made_report(answers, at=time.strftime("%Y-%m-%d %H:%M UTC", now))
    if out is None:
        click.echo("\n".join(_markdown(page)))
        return 0
    try:
        out.write_text(_html(page), encoding="utf-8")
    except OSError as error:
        raise IgmpconfError(f"the report cannot be written to {out}: {error.strerror}") from None
    talk(f"{out}: {_devices(page)}, {page.count('ok')} as wanted")
    return 0


def _asked(devices: Sequence[Device]) -> Iterator[tuple[Device, Answer | IgmpconfError]]:
    return iter(zip(devices, for_each(devices, _ask), strict=True))


def _ask(device: Device) -> Answer:
    with NetconfClient.connect(device.target, say=talk) as client:
        state = device_state(client)
        running = running_config(client)
    changes: int | None = None
    if device.host is not None and device.host.config_files():
        try:
            changes = len(diff(running, of_hosts([device.host])[0].config))
        except InputError as error:
            talk(f"{device.name}: what is wanted cannot be read: {error.message}")
    return Answer(device=device.name, state=state, changes=changes)


def _answer(device: Device, said: Answer | IgmpconfError) -> Answer:
    return said if isinstance(said, Answer) else Answer(device=device.name, error=said.message)


def _html(page: Report) -> str:
    text = importlib.resources.files("igmpconf.cli").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True).from_string(text)
    return template.render(page=page, size=size_text)


def _markdown(page: Report) -> Iterator[str]:
    said = [_devices(page), f"{page.count('ok')} as wanted"]
    said += [f"{page.count(status)} {status}" for status in ("differs", "deviates", "unreachable") if page.count(status)]
    yield from ("# Multicast proxies", "", f"{page.at}: {', '.join(said)}.", "")
    yield from ("| device | status | interfaces | groups | hosts | forwarded | version, uptime | last commit |", "|---|---|--:|--:|--:|--:|---|---|")
    for line in page.devices:
        status = line.status + (f": {line.said}" if line.said else "") + (f"; down: {', '.join(line.down)}" if line.down else "")
        numbers = ["", "", "", ""] if line.status == "unreachable" else [str(line.interfaces), str(line.groups), str(line.hosts), size_text(line.bytes)]
        yield _row(line.device, status, *numbers, ", ".join(filter(None, (line.version, line.uptime))), line.last_commit)
    yield from ("", "| group | devices | interfaces | hosts | forwarded |", "|---|--:|--:|--:|--:|")
    for group in page.groups:
        yield _row(group.group, str(group.devices), str(group.interfaces), str(group.hosts), size_text(group.bytes))
    if page.groups_left_out:
        yield from ("", f"and {page.groups_left_out} more groups")


def _devices(page: Report) -> str:
    return f"{len(page.devices)} device{'s' * (len(page.devices) != 1)}"


def _row(*cells: str) -> str:
    escaped = (re.sub(r"([\\`*_\[\]<>|])", r"\\\1", cell.replace("\n", " ")) for cell in cells)
    return "| " + " | ".join(escaped) + " |"

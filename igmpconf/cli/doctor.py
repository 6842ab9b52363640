"""`igmpconf doctor`: what is wrong, why, by which numbers, and what to change."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import click

from igmpconf.apply.session import device_state, running_config
from igmpconf.cli.devices import Device, chosen, device_options, for_each, talk
from igmpconf.errors import IgmpconfError, InputError, RpcFailed, TransportError
from igmpconf.model.diagnosis import DEFAULT_MS, LONGEST_MS, Diagnosis
from igmpconf.model.document import closed_object
from igmpconf.model.leaf import Address
from igmpconf.netconf.client import NetconfClient
from igmpconf.observe.doctor import CODES, SYMPTOMS, Finding, Patient, diagnose, plain
from igmpconf.schema.xml import NAMESPACE, DataError, xml_to_answer

_PARTS = ("interfaces", "groups", "upstream", "mfc", "deviations")
_PATIENCE_S = 30.0  # beyond the time it looks: for those who ask before us, and for what the agent reads
_UNITS_MS = {"": 1_000, "s": 1_000, "ms": 1, "m": 60_000}


@dataclass(frozen=True, slots=True)
class Visit:
    """What one device was found to have, and what could not be looked at there."""

    findings: list[Finding]
    window_ms: int
    unmeasured: tuple[str, ...]


@click.command()
@click.argument("name", metavar="[DEVICE]", required=False)
@device_options
@click.option("--group", "group_text", metavar="G", help="Look at one stream: where it is joined and where not.")
@click.option(
    "--symptom",
    type=click.Choice(list(SYMPTOMS)),
    help="Only what may be the cause of it: " + "; ".join(f"{name}, {meaning}" for name, meaning in SYMPTOMS.items()) + ".",
)
@click.option(
    "--for", "time_text", metavar="TIME", help=f"Look at what passes for so long (2s, 500ms; 0: not at all; at most 60s).  [default: {DEFAULT_MS // 1000}s]"
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(
    *,
    name: str | None,
    device: str | None,
    limit: str | None,
    inventory: Path | None,
    group_text: str | None,
    symptom: str | None,
    time_text: str | None,
    form: str,
) -> int:
    """Check a device, or several at once.  Exit code 1 if a warning or an error was found, 0 otherwise."""
    if name is not None and device is not None:
        raise click.UsageError("name the device once")
    group, window_ms = _group(group_text), _window_ms(time_text)
    devices = chosen(name if name is not None else device, limit, inventory)
    answers = for_each(devices, lambda one: _visit(one, group, symptom, window_ms))
    if form == "json":
        click.echo(json.dumps({"devices": [_row(*pair) for pair in zip(devices, answers, strict=True)]}, indent=2, ensure_ascii=False))
    else:
        for one, answer in zip(devices, answers, strict=True):
            if not isinstance(answer, IgmpconfError):
                for what in answer.unmeasured:
                    talk(f"{one.name}: not looked at: {what}")
                click.echo(_text(one, answer.findings))
    failed = [answer for answer in answers if isinstance(answer, IgmpconfError)]
    for error in failed[1:]:
        talk(f"igmpconf: {error.message}")
    if failed:
        raise failed[0]
    return 1 if any(row.severity != "note" for answer in answers if not isinstance(answer, IgmpconfError) for row in answer.findings) else 0


def _group(text: str | None) -> Address | None:
    if text is None:
        return None
    try:
        group = ipaddress.ip_address(text)
    except ValueError:
        raise InputError(f"--group {text}: expected an address") from None
    if not group.is_multicast:
        raise InputError(f"--group {text}: expected a multicast group, in 224.0.0.0/4 or ff00::/8")
    return group


def _window_ms(text: str | None) -> int:
    if text is None:
        return DEFAULT_MS
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m)?", text)
    window_ms = round(float(match[1]) * _UNITS_MS[match[2] or ""]) if match else -1
    if not 0 <= window_ms <= LONGEST_MS:
        raise InputError(f"--for {text}: expected a time from 0 to {LONGEST_MS // 1000}s, such as 2s or 500ms")
    return window_ms


def _visit(device: Device, group: Address | None, symptom: str | None, window_ms: int) -> Visit:
    with NetconfClient.connect(device.target, say=talk) as client:
        found, why_not = _look(client, window_ms)
        patient = Patient(running_config(client), device_state(client, _PARTS), group, found, symptom)  # the state after the look: no older than what it saw
    unmeasured = found.unmeasured if found is not None else (why_not,)
    return Visit(diagnose(patient), window_ms if found is not None else 0, unmeasured)


def _look(client: NetconfClient, window_ms: int) -> tuple[Diagnosis | None, str]:
    """What the device found out about itself; None, and why, from an agent that cannot look."""
    operation = Element(f"{{{NAMESPACE}}}diagnose")
    SubElement(operation, f"{{{NAMESPACE}}}window").text = str(window_ms)
    try:
        return xml_to_answer(Diagnosis, client.rpc(operation, "looking at what passes", timeout_s=window_ms / 1000 + _PATIENCE_S)), ""
    except DataError as error:
        raise TransportError(client.device, f"{client.device} sent a diagnosis that we do not understand: {error}", retryable=False) from None
    except RpcFailed as error:
        return None, f"what passes on the device, its kernel and its packet filter: {error.message}"


def _row(device: Device, answer: Visit | IgmpconfError) -> dict[str, Any]:
    if isinstance(answer, IgmpconfError):
        return {"device": device.name, "error": answer.message}
    rows = [plain(row) for row in answer.findings]
    return {"device": device.name, "rows": rows, "window_ms": answer.window_ms, "unmeasured": list(answer.unmeasured)}


def json_schema() -> dict[str, Any]:
    """JSON Schema of what `doctor --format json` prints; printed to schemas/doctor.schema.json."""
    text = {"type": "string"}
    finding = {
        "severity": {"enum": ["error", "warning", "note"]},
        "code": {"enum": sorted(CODES)},
        **dict.fromkeys(("where", "seen", "cause", "evidence", "fix"), text),
        "symptoms": {"type": "array", "items": {"enum": list(SYMPTOMS)}},
    }
    answer = {
        "device": text,
        "rows": {"type": "array", "items": closed_object(finding)},
        "window_ms": {"type": "integer", "minimum": 0, "maximum": LONGEST_MS},
        "unmeasured": {"type": "array", "items": text},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "igmpconf doctor",
        "description": "What `igmpconf doctor --format json` prints; a device that could not be asked has `error` in place of `rows`.",
        **closed_object({"devices": {"type": "array", "items": {"oneOf": [closed_object(answer), closed_object({"device": text, "error": text})]}}}),
    }


def _text(device: Device, found: list[Finding]) -> str:
    if not found:
        return f"{device.name}: nothing is wrong"
    lines = [f"{device.name}:"]
    for one in found:
        lines += [
            f"  {one.severity}: {one.where}: {one.seen} [{one.code}]",
            f"      cause:    {one.cause}",
            f"      evidence: {one.evidence}",
            f"      change:   {one.fix}",
        ]
    return "\n".join(lines)

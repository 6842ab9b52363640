"""`igmpconf merge`: the plans, or the results, of several shards as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from igmpconf.apply import result as results
from igmpconf.cli.desired import new_plan_id
from igmpconf.cli.devices import talk
from igmpconf.errors import IgmpconfError, InputError
from igmpconf.plan import plan as plans


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the one document here.")
def merge(files: tuple[Path, ...], out: Path | None) -> int:
    """Join FILES, all saved plans or all results of `apply --result`; of results, exit as the worst of them did."""
    texts = [(str(path), _text(path)) for path in files]
    if all('"igmpconf-result/' in text[:200] for _, text in texts):
        return _results(texts, out)
    plan = _plan([plans.from_json(text, name=name) for name, text in texts])
    if out is None:
        click.echo(plans.to_json(plan), nl=False)
    else:
        _save(plans.to_json(plan), out)
        talk(f"saved to {out}; `igmpconf apply {out}` executes exactly this plan")
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None


def _save(text: str, out: Path) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise IgmpconfError(f"{out} cannot be written: {error.strerror}") from None


def _plan(found: Sequence[plans.Plan]) -> plans.Plan:
    seen: set[str] = set()
    for device in (device for plan in found for device in plan.devices):
        if device.device in seen:
            raise InputError(f"{device.device} is in more than one plan", hint="shards have no device in common; is a file named twice?")
        seen.add(device.device)
    return plans.Plan(plan_id=new_plan_id(), devices=tuple(device for plan in found for device in plan.devices))


def _results(texts: Sequence[tuple[str, str]], out: Path | None) -> int:
    result = results.merged([results.from_json(text, name=name) for name, text in texts])
    if out is not None:
        _save(results.to_json(result), out)
    bad = result.bad
    click.echo(f"{len(result.outcomes) - len(bad)} of {len(result.outcomes)} devices as planned")
    for outcome in bad:
        click.echo(f"{outcome.device}: {outcome.phase.value}: {outcome.failure.message if outcome.failure is not None else ''}")
    result.raise_if_bad()
    return 0

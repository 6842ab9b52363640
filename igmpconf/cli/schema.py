"""`igmpconf schema` and `igmpconf explain`: what may be written, and what a leaf or a complaint means."""

from __future__ import annotations

import json

import click

from igmpconf.errors import InputError


@click.command()
@click.argument("which", type=click.Choice(["desired", "doctor", "plan", "report", "result", "show", "yang"]), default="desired")
def schema(which: str) -> int:
    """Print a schema: of the desired state (JSON Schema), of a saved plan, of `apply --result`, of `show`, `doctor` or `report` as JSON, or the YANG module."""
    click.echo(text_of(which), nl=False)
    return 0


def text_of(which: str) -> str:
    """The printed text, as it stands in schemas/."""
    match which:
        case "plan":
            from igmpconf.plan.plan import json_schema as plan_schema  # noqa: PLC0415 - each needs only its own

            return _printed(plan_schema())
        case "show":
            from igmpconf.apply.rows import json_schema as show_schema  # noqa: PLC0415

            return _printed(show_schema())
        case "report":
            from igmpconf.plan.report import json_schema as report_schema  # noqa: PLC0415

            return _printed(report_schema())
        case "result":
            from igmpconf.apply.result import json_schema as result_schema  # noqa: PLC0415

            return _printed(result_schema())
        case "doctor":
            from igmpconf.cli.doctor import json_schema as doctor_schema  # noqa: PLC0415

            return _printed(doctor_schema())
        case "yang":
            from igmpconf.schema.yang import module_text  # noqa: PLC0415

            return module_text()
        case _:
            from igmpconf.schema.jsonschema import json_schema  # noqa: PLC0415

            return _printed(json_schema())


def _printed(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


@click.command()
@click.argument("what", metavar="LEAF|CODE")
def explain(what: str) -> int:
    """Explain a leaf (query-interval, igmp-proxy/interfaces/threshold) or the code of a complaint."""
    from igmpconf.schema.explain import explained, nearest  # noqa: PLC0415

    text = explained(what)
    if text is None:
        near = nearest(what)
        hint = f"did you mean {', '.join(near)}?" if near else "leaves are listed by `igmpconf schema`, codes stand in brackets at the end of a complaint"
        raise InputError(f"there is no leaf and no complaint {what!r}", hint=hint)
    click.echo(text.rstrip("\n"))
    return 0
